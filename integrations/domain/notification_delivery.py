"""Notifications in messages: a dispatch that left the flow, and what its workflow is asked and answers."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from integrations.domain.message import Message
from integrations.domain.outbox import Retrying

RETRYING: Final = Retrying(attempts=12, first=timedelta(seconds=10), most=timedelta(minutes=15))
"""How often a message is tried, and how long between."""
BATCH: Final = 250
"""Dispatches of one claim: what is on its way is enough to go on with while they are settled and others claimed."""
WHOLE_MOST: Final = timedelta(seconds=30)
"""The longest wait between two attempts at what tries for all others: they go on soon after the origin does."""


SHORT: Final = timedelta(seconds=4)
"""The longest that a workflow's own task waits, in all: the SDK calls one that takes five seconds an illness."""


class Left(Message):
    """A dispatch that could not be sent at once. Addresses are no part of it: it stands in a workflow's history."""

    dispatch_id: UUID
    definition: str
    channel: str
    recipient: str
    event_id: UUID
    event: str
    provider_id: str
    tenant: str
    connection_id: UUID | None = None
    cause: str
    expires_at: datetime
    wait: timedelta = timedelta()
    """Before it is tried once more."""
    answered: bool = False
    """Its channel said why it did not arrive: trying it does not end the process."""
    whole: bool = False
    """Where it goes to is out as a whole: this one tries for all others, which wait without a workflow."""

    @property
    def tried_locally(self) -> bool:
        """Whether the second attempt is made in its workflow's own task.

        Not when it may have ended a process: a task is repeated without a limit. Nor when it tries for all others: its
        attempts have none.
        """
        return self.answered and not self.whole

    @property
    def waits_locally(self) -> bool:
        return self.tried_locally and timedelta() < self.wait <= SHORT

    @property
    def key(self) -> str:
        """Its workflow's id."""
        return f"notification:{self.definition}:{self.dispatch_id}"


class ChannelRequest(Message):
    """One channel's dispatcher."""

    channel: str


class Sending(Message):
    """Why a channel's drain came to an orderly end, and what it did until then."""

    items: int
    why: str


class SendRequest(Message):
    """One message to be tried until it is sent, old or dead."""

    left: Left
    tried: int = 1
    retrying: Retrying = RETRYING


class Unsent(Message):
    """Why an attempt failed, as Temporal knows it."""

    kind: str
    why: str
    after: timedelta | None = None
    """What the other side asked to wait."""


class SendStep(Message):
    dispatch_id: UUID
    tried: int = 1
    """Attempts before the first of this activity."""
    first: Unsent | None = None
    """The first of this activity, when that was made in the workflow's own task."""


class Sent(Message):
    """How a dispatch ended."""

    status: str
    """`delivered`, `dead`, `dropped`, or what somebody else had made of it before."""
    attempts: int
    cause: str = ""
