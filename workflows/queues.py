"""Every task queue's name."""

from typing import Final

from integrations.temporal import NOTIFY, WORKFLOWS

__all__ = ["DRAIN", "NOTIFY", "WORKFLOWS", "provider_queue"]

DRAIN: Final = "drain"
"""Long activities that own partitions of a ledger: with slots of their own, so that nothing else waits for one."""


def provider_queue(provider_id: str) -> str:
    """Where one provider's calls run: with slots of their own, so that its trouble takes nobody else's."""
    return f"provider-{provider_id}"
