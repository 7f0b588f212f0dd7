"""Which items of a ledger a person means: for plans of replays, and to ask what there is."""

import re
from datetime import datetime
from typing import Final
from uuid import UUID

from integrations.domain.errors import WrongUsageError
from integrations.domain.ledger import ItemStatus
from integrations.domain.message import Message

_REPLAYABLE: Final = (ItemStatus.DEAD, ItemStatus.RETRYING, ItemStatus.HELD, ItemStatus.DELIVERED)

_NAMED: Final = (
    "event_type",
    "provider",
    "connection",
    "tenant",
    "cause",
    "projector",
    "channel",
    "definition",
    "recipient",
    "limit",
)


class Filters(Message):
    """Which items are meant. Each that is given narrows the set; without any it is all that is dead."""

    statuses: tuple[ItemStatus, ...] = (ItemStatus.DEAD,)
    since: datetime | None = None
    """Occurred then or later …"""
    until: datetime | None = None
    """… and before that."""
    event_type: str | None = None
    """A name; `*` stands for anything."""
    provider: str | None = None
    connection: UUID | None = None
    tenant: str | None = None
    """`user:ID` or `org:ID`."""
    cause: str | None = None
    """How its text begins, or its fingerprint."""
    projector: str | None = None
    """The destination."""
    channel: str | None = None
    """With the next two: of notifications only."""
    definition: str | None = None
    recipient: str | None = None
    limit: int | None = None
    """Of the oldest."""

    def check(self) -> None:
        """Raise WrongUsageError for what cannot be meant."""
        if not self.statuses:
            raise WrongUsageError("no status is asked for: leave --status out for `dead`, or name one")
        for status in self.statuses:
            if status not in _REPLAYABLE:
                raise WrongUsageError(
                    f"{status.value} items drain by themselves and need no replay: `runbook status` tells how they "
                    f"stand. --status takes {', '.join(known.value for known in _REPLAYABLE)}"
                )
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise WrongUsageError(
                f"--since {_minute(self.since)} is not before --until {_minute(self.until)}: nothing lies between them"
            )
        if self.tenant is not None:
            self.scope  # noqa: B018 - it raises
        if self.limit is not None and self.limit < 1:
            raise WrongUsageError(f"--limit {self.limit} asks for nothing: it is 1 or more")

    @property
    def scope(self) -> tuple[str, str]:
        """The tenant's type and id. Raises WrongUsageError for what is no tenant."""
        scope_type, _, scope_id = (self.tenant or "").partition(":")
        if scope_type not in {"user", "org"} or not scope_id:
            raise WrongUsageError(
                f"{(self.tenant or '')[:80]!r} is not a tenant: write user:ID or org:ID, for example org:acme"
            )
        return scope_type, scope_id

    def __str__(self) -> str:
        """As options of a command."""
        words = [f"--status {status.value}" for status in self.statuses]
        for name in _NAMED:
            value = getattr(self, name)
            if value is not None:
                words.append(f"--{name.replace('_', '-')} {_quoted(str(value))}")
        words += [f"--since {_iso(self.since)}"] if self.since else []
        words += [f"--until {_iso(self.until)}"] if self.until else []
        return " ".join(words)


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w.:@/-]+", text) else "'" + text.replace("'", "'\\''") + "'"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
