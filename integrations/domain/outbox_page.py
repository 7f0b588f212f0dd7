"""What one look at the outbox finds."""

from datetime import datetime, timedelta

from pydantic import Field

from integrations.domain.dispatcher import Dispatcher, Owner
from integrations.domain.ledger import PARTITIONS
from integrations.domain.message import Message
from integrations.domain.outbox_health import Rates


class Projection(Message):
    """One projector: what is in trouble there, and how far it is."""

    projector: str
    held: int | None = 0
    """None: not counted in time, as with each count here."""
    retrying: int | None = 0
    dead: int | None = 0
    waiting_since: datetime | None = None
    """Since when the longest `retrying` item holds up what comes after it."""
    whole: bool = False
    """It fails as a whole: one item tries for all."""
    cause: str = ""
    """Of the item that is retried longest."""
    dead_since: datetime | None = None
    position: int | None = None
    """Its watermark: everything up to this place in the outbox is projected, or dead."""
    moved_at: datetime | None = None
    """When the flow last delivered something there."""
    behind: int | None = 0
    """Events that it has still to project."""
    oldest: datetime | None = None
    """When the first of those occurred."""


class Stuck(Message):
    """Claims and holds that somebody should have taken on."""

    retrying: int = 0
    """Past their lease: nobody spoke of them."""
    holds: int = 0
    """Released for longer than 30 s, and not removed."""


class Reconciled(Message):
    """One projector's rows in the ledger against what it made, counted in one snapshot."""

    projector: str
    delivered: int
    """According to the ledger."""
    made: int | None
    """Rows in its table; None when it is not known which that is."""
    unknown: int = 0
    """Events that are settled, and of which it has no row in the ledger."""

    @property
    def differs(self) -> bool:
        return self.unknown != 0 or (self.made is not None and self.made != self.delivered)


class Counts(Message):
    """What it takes to read every row."""

    processing: int
    projections: list[Reconciled]


class Page(Message):
    at: datetime
    """The database's clock."""
    pending: int | None
    """None: not counted in time."""
    oldest: dict[int, datetime] = Field(default_factory=dict)
    """When the oldest pending event of each partition occurred; only of those that have one."""
    rates: Rates | None = None
    wish: int
    wished_by: str = ""
    dispatchers: list[Dispatcher] = Field(default_factory=list)
    strangers: list[Owner] = Field(default_factory=list)
    """Sessions with locks of partitions that no dispatcher says are its."""
    projections: list[Projection] = Field(default_factory=list)
    stuck: Stuck = Stuck()
    counts: Counts | None = None
    """None: not counted, or not in time."""

    @property
    def since(self) -> datetime | None:
        return min(self.oldest.values(), default=None)

    @property
    def lag(self) -> timedelta:
        """The age of the oldest pending event; zero without one."""
        return max(self.at - self.since, timedelta()) if self.since else timedelta()

    @property
    def drained(self) -> bool:
        return any(each.fresh(self.at) for each in self.dispatchers)

    @property
    def unowned(self) -> list[int]:
        """Partitions whose lock nobody has."""
        owners = [*self.strangers, *(each.owner for each in self.dispatchers if each.owner)]
        return sorted(set(range(PARTITIONS)) - {part for owner in owners for part in owner.parts})
