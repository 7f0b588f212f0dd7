"""What the platform may do by itself: all of it, or for a while less, or nothing but look on."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from integrations.domain.message import Message
from integrations.domain.reauth import Detected

LONGEST: Final = timedelta(days=7)
"""A pause that is meant to be longer is one that was forgotten: it is paused again, or `RUNBOOK_MODE=observe`."""


class FailureMode(StrEnum):
    """What can be paused. The values are the failure modes' names everywhere else."""

    OUTAGE = "outage"
    REAUTH = "reauth"
    WEBHOOK = "webhook"
    OUTBOX = "outbox"
    NOTIFICATION = "notification"


class Conduct(StrEnum):
    """`RUNBOOK_MODE`: how the platform goes about what it finds."""

    ACT = "act"
    OBSERVE = "observe"
    """It writes down what it would have done, and does nothing by itself."""


class Step(StrEnum):
    """What the platform does to a connection by itself. The value is what the row of one that was not done says."""

    BLOCK = "block"
    ASK = "ask"
    NARROW = "narrow"
    ERRORED = "errored"
    CONTEST = "contest"
    DISCONNECT = "disconnect"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS: Final = {
    Step.BLOCK: "block it and ask its owner to consent again",
    Step.ASK: "ask its owner for a fresh consent",
    Step.NARROW: "take grants from it that a refresh did not bring",
    Step.ERRORED: "make it errored, with a task that names the fix",
    Step.CONTEST: "open a task: its provider contradicts itself",
    Step.DISCONNECT: "disconnect it: its owner's time is over",
}


def shielded(provider_id: str, since: datetime) -> str:
    """What keeps the platform from acting on a provider's word while its outage is contained."""
    return f"shielded: outage of {provider_id} since {since:%H:%M} UTC"


def step_of(kind: str) -> Step:
    """What a detection of this kind leads to."""
    return Step.BLOCK if kind == Detected.REVOKED else Step.ASK


class Pause(Message):
    """A lease on a failure mode's hands: it ends by itself."""

    mode: FailureMode
    since: datetime
    until: datetime
    by: str
    reason: str


class Shield(Message):
    """Over the connections of a provider, or of one tenant there, while its outage is contained."""

    provider_id: str
    tenant: str
    """Empty: all of them."""
    since: datetime


class Undone(Message):
    """What the platform would have done to a connection, and was kept from."""

    connection_id: UUID
    provider_id: str
    tenant: str
    mode: FailureMode
    step: Step
    cause: str
    """As it was said the last time."""
    times: int
    first_at: datetime
    last_at: datetime


class Automation(Message):
    """How the platform conducts itself now, and what it has not done for that."""

    conduct: Conduct
    conduct_since: datetime | None
    """Since when it observes; None while it acts."""
    pauses: tuple[Pause, ...]
    shields: tuple[Shield, ...] = ()
    undone: tuple[Undone, ...]
    """The latest first, and not all of them when there are many: of what is held back now."""
    undone_total: int
    waiting: int
    """Detections that become lifecycles once the platform acts by itself again."""

    @property
    def held(self) -> bool:
        return self.conduct is Conduct.OBSERVE or bool(self.pauses) or bool(self.shields)
