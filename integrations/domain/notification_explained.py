"""Why an event is told, to whom, by what, and when: what an explanation is made of."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from integrations.domain.message import Message
from integrations.domain.notification import Definition, Mode, Recipient
from integrations.domain.notification_addressing import Addressed, Unreached


class Way(Message):
    """One channel of a definition, and whether it carries this."""

    channel: str
    address: str = ""
    """Masked."""
    state: str


class Reader(Message):
    """A recipient, and what they would read."""

    recipient: str
    ways: list[Way]
    due_at: datetime | None = None
    """None: nothing is to go out."""
    subject: str = ""
    text: str = ""
    mistake: str = ""
    """Why there is nothing to read, or it is not sent."""
    unreached: str = ""
    """Why nothing goes out, and the command that changes it."""


class Mapped(Message):
    """A definition that is about the event."""

    definition: str
    pattern: str
    """Of those in its `events`, the one that the event's name matches."""
    file: str
    audience: str
    """Its word for it, and whom that is."""
    mode: str
    channels: tuple[str, ...]
    news_until: datetime
    old: str = ""
    """Why it would be dropped, if it would."""
    readers: list[Reader]
    nobody: str = ""
    """Why there is no reader at all, and the command that changes it."""


class Became(Message):
    """A dispatch as it stands."""

    id: UUID
    definition: str
    recipient: str
    channel: str
    status: str
    attempts: int
    cause: str
    error: str
    workflow_id: str
    """Of one that left the flow; empty without."""


class Explained(Message):
    event_id: UUID
    name: str
    occurred_at: datetime
    provider: str
    tenant: str
    connection_id: UUID | None
    order_key: str
    seq: int
    says: str
    """How far it is on its way to people."""
    next: str
    """The nearest thing to do, as a command or a sentence; empty where there is nothing."""
    mapped: list[Mapped]
    became: list[Became]


_ENDED: Final = frozenset({"dead", "dropped", "nobody"})


def ways(
    definition: Definition,
    recipient: Recipient,
    shown: Mapping[UUID, str],
    unready: Mapping[str, str],
    tried: Mapping[str, str],
    chosen: Sequence[Addressed | Unreached],
) -> list[Way]:
    """Each channel in the definition's order.

    `shown`: addresses for people. `tried`: what became of it by a channel. `chosen`: what is still to go out.
    """
    going = {each.channel for each in chosen if isinstance(each, Addressed)}
    chooses = "as by each" if definition.mode is Mode.ALL else "the first that can"
    found = []
    for channel in definition.channels:
        address = shown.get(recipient.addresses[channel], "") if channel in recipient.addresses else ""
        if channel in tried:
            state = tried[channel]
        elif channel not in recipient.addresses:
            state = "no address"
        elif channel in unready:
            state = f"cannot send: {unready[channel]}"
        elif channel in going:
            state = f"would go by this one, {chooses}"
        elif "delivered" in tried.values():
            state = "not needed"
        elif tried and _ENDED.issuperset(tried.values()):
            state = "not tried"
        else:
            state = "follows, should those before it give up"
        found.append(Way(channel=channel, address=address, state=state))
    return found
