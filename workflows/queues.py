"""Every task queue's name, and who goes first in it."""

from enum import IntEnum
from typing import Final

from temporalio.common import Priority

from integrations.task_queues import fairness_key, provider_queue
from integrations.temporal import NOTIFY, WORKFLOWS

__all__ = ["DRAIN", "NOTIFY", "WORKFLOWS", "First", "priority", "provider_queue"]

DRAIN: Final = "drain"
"""Long activities that own partitions of a ledger: with slots of their own, so that nothing else waits for one."""


class First(IntEnum):
    """What a provider's queue lets out first when more waits in it than goes out."""

    PERSON = 1
    """Somebody looks at a page meanwhile."""
    LIVE = 2
    """A host application waits for its job."""
    REFRESH = 3
    SWEEP = 4
    REPLAY = 5
    """What waited for long already, and is done in its own time."""


def priority(first: First, tenant: str = "") -> Priority:
    """How a step stands in its provider's queue: among its equals tenants take turns, and one may be held back alone.

    Without a tenant it is for many of them, or must not wait for one that is held back.
    """
    return Priority(priority_key=first, fairness_key=fairness_key(tenant) if tenant else None)
