"""Notifications: what is told of an event, to whom, by which channel, and what came of it.

event ──definitions──▶ request ──contacts──▶ dispatches: one for each recipient, by the first channel that reaches them

A dispatch is an item of its ledger (`domain/ledger.py`). Beside the states that all ledgers share it may be `nobody`,
where a definition found no one to tell, and `dropped`, where the news was none any more.
"""

import fnmatch
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid5

from integrations.domain.audience import recipient_of
from integrations.domain.message import Message
from integrations.domain.quiet_hours import QuietHours
from integrations.domain.verdict import Meaning

LEDGER: Final = "notifications"
CHANNELS: Final = ("webhook", "email", "apprise")
"""Every channel; its place here is its partition of the ledger. Only ever appended to."""
LAID_OUT: Final = frozenset({"email"})
"""Channels whose messages have HTML beside their text."""
OWNER: Final = "owner"
"""The audience of whoever the event's connection belongs to. Every other audience is a list's name."""


def part_of(channel: str) -> int:
    """The partition of a channel's dispatches. What was never given a channel is in the first."""
    return CHANNELS.index(channel) if channel in CHANNELS else 0


class Mode(StrEnum):
    FAILOVER = "failover"
    """By the first channel that reaches the recipient, then by the next one when that gives up."""
    ALL = "all"
    """By each of them: an alert about a channel must not travel by that channel alone."""


class Definition(Message):
    """What is told of an event, to whom and how. One table of a definitions file; its name is the id."""

    id: str
    events: tuple[str, ...]
    """Names; `*` stands for anything."""
    audience: str
    """`owner`, `operators.primary`, `operators.secondary`, or `list.NAME`."""
    channels: tuple[str, ...]
    mode: Mode = Mode.FAILOVER
    relevant_for: timedelta
    """How long after the event it is still news."""
    superseded_by: tuple[str, ...] = ()
    """Later events of the same order key, by name, that make it old."""
    in_the_morning: bool = False
    """Waits for the end of the recipient's quiet hours."""
    subject: str
    text: str
    html: str = ""
    """Templates, as they were written."""

    def is_about(self, event: str) -> bool:
        return matches(event, self.events)

    @property
    def version(self) -> str:
        """Twelve hexadecimal digits that change with the templates."""
        return hashlib.sha256(f"{self.subject}\x00{self.text}\x00{self.html}".encode()).hexdigest()[:12]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Is an event of this name meant? `*` stands for anything."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class News:
    """An event as it is told: what a template is shown, and no more."""

    event_id: UUID
    name: str
    occurred_at: datetime
    provider_id: str
    scope_type: str
    scope_id: str
    connection_id: UUID | None
    payload: Mapping[str, Any]
    order_key: str = ""
    seq: int = 0

    @property
    def tenant(self) -> str:
        return f"{self.scope_type}:{self.scope_id}"

    @property
    def session_id(self) -> UUID | None:
        """The invitation that it is about, whose link is made when it is sent. What is no id names none."""
        try:
            return UUID(str(self.payload.get("session_id")))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Recipient:
    """One person or mailbox of an audience, and how it is reached."""

    audience: str
    """As `org:acme`, `user:7`, `operators.primary` or `list.finance`."""
    name: str
    """Among the others of its audience; empty for its only one."""
    quiet: QuietHours
    addresses: Mapping[str, UUID]
    """By channel, the id of the address. What the address is stays below until it is used."""

    @property
    def key(self) -> str:
        return recipient_of(self.audience, self.name)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a channel delivers to. Opened for one sending, never kept or logged."""

    channel: str
    recipient: str
    name: str
    address: str = field(repr=False)
    """A mailbox, or a URL."""
    secret: str = field(default="", repr=False)
    """What webhooks to it are signed with."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a recipient reads. `link` stands in it where `LINK` is: put in when it is sent, stored nowhere."""

    subject: str
    text: str
    html: str = ""

    def with_link(self, link: str) -> "Rendered":
        return Rendered(*(part.replace(LINK, link) for part in (self.subject, self.text, self.html)))

    @property
    def has_link(self) -> bool:
        return any(LINK in part for part in (self.subject, self.text, self.html))

    def kept(self) -> dict[str, str]:
        """As it is stored: without any link."""
        told = "(the link: it is made anew whenever this is sent)"
        parts = (part.replace(LINK, told) for part in (self.subject, self.text, self.html))
        return dict(zip(("subject", "text", "html"), parts, strict=True))


LINK: Final = "https://link.invalid/made-when-it-is-sent"
"""Stands for an invitation's link while a message is rendered. RFC 2606 section 2: no such host can exist."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message as a channel is given it."""

    key: str
    """The idempotency key: the same each time, whoever sends it again."""
    definition: str
    news: News
    to: Address
    rendered: Rendered


class Answer(Message):
    """What a channel made of a message."""

    meaning: Meaning
    """`ok` · `retry`, `throttled`, `outage`: again later · `owner_must_act`: the address refuses it for good ·
    `operator_must_act`: ours to fix (no credentials, a wrong certificate), again later."""
    why: str = ""
    """For people: bounded, without secrets, addresses or bodies."""
    kind: str = ""
    """A short name for the cause, as `HTTP 503` or `ConnectError`: the same for all that fail for the same reason."""
    after: timedelta | None = None
    """What the other side asked to wait."""

    @property
    def sent(self) -> bool:
        return self.meaning is Meaning.OK

    @property
    def refused(self) -> bool:
        """For good: trying it again cannot help."""
        return self.meaning is Meaning.OWNER_MUST_ACT


def dispatch_id(event_id: UUID, definition: str, recipient: str, channel: str) -> UUID:
    """The same dispatch whoever makes it, so that it is made once."""
    return uuid5(event_id, f"{definition}\n{recipient}\n{channel}")


def idempotency_key(event_id: UUID, definition: str, recipient: str, channel: str) -> str:
    """What the receiver may recognise a repeat by, 36 characters of a header, whoever sends it again."""
    told = f"{event_id}\n{definition}\n{recipient}\n{channel}"
    return f"ntf_{hashlib.sha256(told.encode()).hexdigest()[:32]}"
