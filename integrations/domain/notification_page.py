"""What one look at the notifications finds."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from integrations.domain.dispatcher import Dispatcher
from integrations.domain.message import Message


class ChannelLook(Message):
    """One channel: what went out, what waits, and what is in trouble there."""

    channel: str
    sent: int = 0
    """Ever."""
    sent_at: datetime | None = None
    """The last of these."""
    pending: int | None = 0
    """Due. None: not counted in time, as with each count here."""
    later: int | None = 0
    """That wait for the end of somebody's quiet hours."""
    oldest: datetime | None = None
    """When the first of those that are due became so."""
    on_the_way: int | None = 0
    held: int | None = 0
    retrying: int | None = 0
    dead: int | None = 0
    dead_since: datetime | None = None
    dead_last_hour: int | None = 0
    dead_hour_before: int | None = 0
    dropped_last_hour: int | None = 0
    """News that was none any more."""
    failed_over_last_hour: int | None = 0
    """Given up, and told by the recipient's next channel."""
    addresses: int = 0
    """How many people or mailboxes it could reach."""
    unready: str = ""
    """What it lacks to send anything, and how it is given."""
    dispatcher: Dispatcher


class Cause(Message):
    """Dispatches of one channel that failed for the same reason."""

    status: str
    """`retrying`, `dead` or `nobody`."""
    channel: str
    """Empty, where nobody was found to tell."""
    cause: str
    fingerprint: str
    count: int
    since: datetime | None

    @property
    def next(self) -> str:
        return next_of(self.status, self.fingerprint)


def next_of(status: str, fingerprint: str) -> str:
    """The command for a cause: what is given up is replayed by a plan; what is retried is only looked at."""
    if status == "retrying":
        return f"runbook notifications dead --retrying --cause {fingerprint}"
    return f"runbook notifications plan --cause {fingerprint}"


class Out(Message):
    """An origin, as a mail server, where nothing arrives."""

    channel: str
    origin: str
    since: datetime
    waiting: int | None
    """Messages without a workflow of their own."""
    cause: str
    item_id: UUID
    workflow_id: str
    """Of the one that tries for all."""


class Page(Message):
    at: datetime
    """The database's clock."""
    channels: list[ChannelLook]
    causes: list[Cause] | None = Field(default_factory=list)
    """The most frequent ones. None: not counted in time."""
    out: list[Out] = Field(default_factory=list)
    nobody: int | None = 0
    """Messages for somebody whom nothing reaches."""
    nobody_since: datetime | None = None
    requests: int | None = 0
    """Events of which nobody has found out yet whom they are told to."""
    requested: datetime | None = None
    """Since when the oldest of these waits."""

    @property
    def reaches_anybody(self) -> bool:
        return any(each.addresses for each in self.channels)

    @property
    def waiting_since(self) -> datetime | None:
        """Since when the oldest waits that is due, expanded or not."""
        return min((at for at in (self.requested, *(each.oldest for each in self.channels)) if at), default=None)
