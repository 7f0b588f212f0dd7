"""The outbox in messages: a batch that moved, a projection in trouble, and what a dispatcher was asked and did."""

from datetime import timedelta
from typing import Final, Generic, TypeVar
from uuid import UUID

from integrations.domain.errors import StopError
from integrations.domain.message import Message

DISPATCHERS: Final = 4
"""How many share the partitions when nobody has wished otherwise."""
BATCH: Final = 1000
SOURCE: Final = "runbook"
"""The program that records an event, unless it says otherwise."""
_LIMIT: Final = 200


def checked(event_id: UUID, **words: str) -> None:
    """Raise StopError unless an event has an id, and a word for each of these."""
    name = words.get("name", "")
    if not event_id.int:
        raise StopError(f"an event ({name}) needs an id of its own: give it a UUID that stays the same when repeated")
    for what, word in words.items():
        if not word.strip() or len(word) > _LIMIT or "\x00" in word:
            raise StopError(
                f"event {event_id} ({name[:_LIMIT]}): its {what} is {word[:_LIMIT]!r}, and must be 1 to 200 characters"
            )


class Pair(Message):
    """A projection that left the flow: which event for which projector, whom it is about, and why."""

    projector: str
    event_id: UUID
    name: str
    """The event's."""
    provider_id: str
    tenant: str
    connection_id: UUID | None = None
    cause: str

    @property
    def key(self) -> str:
        """Its workflow's id."""
        return f"outbox:{self.projector}:{self.event_id}"


FollowUp = TypeVar("FollowUp")


class Batch(Message, Generic[FollowUp]):
    """What one batch of a ledger did."""

    taken: int
    """Items, or projections of events that had been held."""
    failed: tuple[FollowUp, ...] = ()
    """Each needs a workflow of its own: what left the flow, and whatever else a ledger leaves to one."""
    upto: int = 0
    """The place of the last item in the ledger: where the next batch may begin to look."""


class Retrying(Message):
    """How often a projection is tried before it is given up, and how long between."""

    attempts: int = 12
    """All of them: the one in the flow was the first."""
    first: timedelta = timedelta(seconds=1)
    most: timedelta = timedelta(minutes=5)

    def wait(self, attempt: int) -> timedelta:
        """Between an attempt, counted from 1, and the next: twice as long each time."""
        return min(self.first * 2.0 ** min(attempt - 1, 50), self.most)


class DeliveryRequest(Message):
    """One projection to be tried until it is delivered or dead."""

    pair: Pair
    tried: int = 1
    retrying: Retrying = Retrying()


class DeliveryStep(Message):
    event_id: UUID
    projector: str
    tried: int = 1
    """Attempts before the first of this activity."""
    alone: bool = False
    """Nothing else that may end a process is tried beside it."""


class Delivered(Message):
    """How a projection ended."""

    status: str
    """`delivered`, `dead`, or what somebody else had made of it before."""
    attempts: int
    cause: str = ""


class DispatchRequest(Message):
    """One dispatcher, counted from 0."""

    number: int


class Drained(Message):
    """Why a drain came to an orderly end, and what it did until then."""

    dispatchers: int
    """How many there are to be by now: beyond that a dispatcher ends."""
    items: int
    why: str
