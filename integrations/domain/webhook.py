"""Webhooks in messages: what a delivery is, how it ends, and what is asked of a dispatcher and of a retry.

pending ──▶ delivered                      the flow: handled, and settled in the same transaction
   ├──▶ coalesced                          a later change of its resource was handled in its place
   └──▶ retrying ──▶ delivered | dead      left the flow: one workflow of its own
dead | retrying ──▶ pending                the provider sent it again
dead ──▶ delivered | dead                  by a replay
dead | retrying ──▶ coalesced              a later change of its resource was handled
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from integrations.domain.ledger import partition_of
from integrations.domain.message import Message
from integrations.domain.outbox import Retrying

LEDGER: Final = "webhooks"
DISPATCHERS: Final = 2
"""How many share the partitions when nobody has wished otherwise."""
BATCH: Final = 500
RETRYING: Final = Retrying(attempts=8)
KEPT: Final = timedelta(days=30)
"""What is settled is forgotten after that: longer than any provider goes on repeating."""
DIGEST_WINDOW: Final = timedelta(hours=24)
"""Where a provider sends no id, the same body is the same delivery until it is handled, and for so long after that; for
longer where it repeats longer."""
LIFECYCLE_WINDOW: Final = timedelta(minutes=10)
"""The same for what makes us do something: that it comes in the same words once more is news, and doing it is safe."""
SELF_TEST_HEADER: Final = "x-runbook-self-test"


class WebhookStatus(StrEnum):
    PENDING = "pending"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    COALESCED = "coalesced"
    DEAD = "dead"


class Identity(StrEnum):
    ID = "id"
    DIGEST = "digest"


class Reason(StrEnum):
    """Why a request was refused. The values are counted and shown; nothing of the request is."""

    UNKNOWN = "unknown channel"
    UNSIGNED = "channel without a secret"
    MISSING = "no signature"
    DOUBLED = "more than one signature header"
    MALFORMED = "malformed signature"
    WRONG = "wrong signature"
    STALE = "outside the time tolerance"
    LARGE = "too large"
    METHOD = "wrong method"
    CUT = "body cut off or not as announced"


class Reaction(StrEnum):
    """What a delivery's event makes us do. The catalog says which event is which; all others are `EVENT`."""

    REVOKED = "revoked"
    """The grant is gone: the owner is asked to consent again."""
    UNINSTALLED = "uninstalled"
    """The owner took the application away: disconnected."""
    REAUTHORIZE = "reauthorize"
    """The provider wants a fresh token, or it stops sending: refreshed now."""
    MISSED = "missed"
    """The provider dropped something: the host application is told to look for itself."""
    SELF_TEST = "self test"
    EVENT = "event"
    """Somebody else's business: it becomes a lifecycle event."""


GRAVEST: Final = (
    Reaction.UNINSTALLED,
    Reaction.REVOKED,
    Reaction.REAUTHORIZE,
    Reaction.MISSED,
    Reaction.EVENT,
    Reaction.SELF_TEST,
)
"""A delivery of several notices is handled as the first of these."""


class Notice(NamedTuple):
    """One thing that a delivery tells."""

    reaction: Reaction
    event: str
    account: str


def digest_window(horizon: timedelta | None) -> timedelta:
    """How long a body stands for one delivery. `horizon`: how long its provider goes on repeating one, if known."""
    return max(DIGEST_WINDOW, horizon or timedelta())


def part_of(provider_id: str, channel: str, delivery_id: str, resource: str = "") -> int:
    """The partition of a delivery. All changes of a resource are in one: whoever owns that folds them."""
    return partition_of(f"{provider_id}:{channel}:{resource or delivery_id}")


class Left(Message):
    """A delivery that left the flow."""

    id: UUID
    """The row's."""
    provider_id: str
    channel: str
    event: str
    handler: str
    """The reaction that failed."""
    tenant: str = ""
    connection_id: UUID | None = None
    cause: str
    woken: int = 0
    """How often it had been sent again: what is sent once more is another workflow's."""

    @property
    def key(self) -> str:
        """Its workflow's id."""
        return f"webhook:{self.provider_id}:{self.id}"


class HandleRequest(Message):
    """One delivery to be tried until it is delivered or dead."""

    left: Left
    tried: int = 1
    retrying: Retrying = RETRYING


class HandleStep(Message):
    id: UUID
    tried: int = 1
    """Attempts before the first of this activity."""
    woken: int = 0
    alone: bool = False
    """Nothing else that may end a process is tried beside it."""


class Handled(Message):
    """How a delivery ended."""

    status: str
    """`delivered`, `dead`, or what somebody else had made of it before."""
    attempts: int
    handled_as: str = ""
    cause: str = ""
