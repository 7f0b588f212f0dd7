"""What one look at webhooks finds."""

from datetime import datetime, timedelta

from pydantic import Field

from integrations.domain.dispatcher import Dispatcher
from integrations.domain.message import Message


class Counted(Message):
    """One channel's requests of an hour, or of several."""

    accepted: int = 0
    duplicates: int = 0
    coalesced: int = 0
    """Of the accepted: a later change was handled in their place."""
    rejected: dict[str, int] = Field(default_factory=dict)
    """By reason."""

    @property
    def refused(self) -> int:
        return sum(self.rejected.values())

    def plus(self, other: "Counted") -> "Counted":
        reasons = {*self.rejected, *other.rejected}
        return Counted(
            accepted=self.accepted + other.accepted,
            duplicates=self.duplicates + other.duplicates,
            coalesced=self.coalesced + other.coalesced,
            rejected={name: self.rejected.get(name, 0) + other.rejected.get(name, 0) for name in sorted(reasons)},
        )


class Hour(Message):
    hour: datetime
    """When it begins."""
    provider: str
    channel: str
    counted: Counted


class Repeated(Message):
    """An id that came again and again."""

    provider: str
    channel: str
    delivery_id: str
    times: int
    """In the last day, beside the first."""
    last: datetime


class Broken(Message):
    """A reaction that fails as a whole: one delivery tries for all."""

    reaction: str
    since: datetime
    cause: str


class HeldBack(Message):
    """Deliveries of one provider and reaction that may not be handled now. They are tried each minute."""

    provider: str
    reaction: str
    count: int
    since: datetime
    """When the first of them came."""
    why: str
    """Of the one that was tried last."""


class Waiting(Message):
    """What is not over with."""

    oldest: datetime | None = None
    """When the first of what is due became so."""
    pending: int | None = 0
    """Due. None: not counted in time, as with each count here."""
    later: int | None = 0
    """In a window to coalesce in, or held back."""
    retrying: int | None = 0
    unheard: int | None = 0
    """Of these, past their lease: nobody spoke of them."""
    dead: int | None = 0
    dead_since: datetime | None = None


class Page(Message):
    at: datetime
    """The database's clock."""
    held: str = ""
    """Why nothing is handled now, if a person wants it so."""
    wish: int
    wished_by: str = ""
    dispatchers: list[Dispatcher] = Field(default_factory=list)
    waiting: Waiting = Waiting()
    broken: list[Broken] = Field(default_factory=list)
    held_back: list[HeldBack] | None = Field(default_factory=list)
    """None: not counted in time, as with the next two."""
    hours: list[Hour] | None = Field(default_factory=list)
    """Of the last day, the newest first."""
    repeated: list[Repeated] | None = Field(default_factory=list)

    @property
    def drained(self) -> bool:
        return any(each.fresh(self.at) for each in self.dispatchers)

    @property
    def lag(self) -> timedelta:
        """How long the oldest of what is due waits; zero without one."""
        return max(self.at - self.waiting.oldest, timedelta()) if self.waiting.oldest else timedelta()

    def channels(self, within: timedelta) -> dict[tuple[str, str], Counted]:
        """The sums of each channel over the hours that ended lately, or last."""
        sums: dict[tuple[str, str], Counted] = {}
        for each in self.hours or []:
            if self.at - each.hour < within:
                key = (each.provider, each.channel)
                sums[key] = sums.get(key, Counted()).plus(each.counted)
        return sums
