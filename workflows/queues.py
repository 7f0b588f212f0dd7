"""Every task queue's name."""

from integrations.temporal import WORKFLOWS

__all__ = ["WORKFLOWS", "provider_queue"]


def provider_queue(provider_id: str) -> str:
    """Where one provider's calls run: with slots of their own, so that its trouble takes nobody else's."""
    return f"provider-{provider_id}"
