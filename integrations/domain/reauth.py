"""Re-consent: the messages of its lifecycle, and what its steps may answer."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from integrations.domain.connection import reauth_id
from integrations.domain.message import Message
from integrations.domain.quiet_hours import QuietHours

PATIENCE: Final = timedelta(days=14)
"""How long an invitation waits for its owner before the connection is given up."""


class Detected(StrEnum):
    """Why a lifecycle opens. The value is what the detection's row says."""

    REVOKED = "revoked"
    """The grant is dead, confirmed: the connection is demoted."""
    DOWNGRADED = "downgraded"
    """Grants are missing."""
    REQUESTED = "requested"
    """A person asks for consent: a first connection, or a fresh one. Nothing is demoted for it."""


class Detection(Message):
    """One row of `service_grant_events`, as the signal `detected` carries it."""

    detection_id: UUID


class Reminding(Message):
    """How a waiting lifecycle presses: its owner by reminders, the operators by an escalation."""

    after: tuple[timedelta, ...] = (timedelta(days=1), timedelta(days=3), timedelta(days=6))
    quiet: QuietHours = QuietHours()
    acknowledge_within: timedelta = timedelta(hours=1)
    """A blocked connection's task that nobody has acknowledged by then goes to the secondary on-call."""

    def times(self, opened_at: datetime, deadline: datetime) -> tuple[datetime, ...]:
        """When the owner is reminded: outside the quiet hours, and not when it is too late."""
        wanted = (self.quiet.after(opened_at + after) for after in sorted(self.after))
        return tuple(dict.fromkeys(at for at in wanted if at < deadline))


class Terms(Message):
    """What a lifecycle is begun with: how long it waits, and how it presses meanwhile."""

    patience: timedelta = PATIENCE
    reminding: Reminding = Reminding()

    def among(self, quiet: QuietHours | None) -> "Terms":
        """The same for an owner with quiet hours of their own."""
        return (
            self
            if quiet is None
            else Terms(patience=self.patience, reminding=self.reminding.model_copy(update={"quiet": quiet}))
        )


class ReauthRequest(Message):
    """The workflow's input: what the Web UI shows first, whom it is about before anything else."""

    connection_id: UUID
    provider_id: str
    tenant: str
    cause: str
    patience: timedelta = PATIENCE
    reminding: Reminding = Reminding()
    opens_locally: bool = False
    """Whether it opens in the workflow's own task. Runs from before 2026-12 do not, and their start says so."""

    @property
    def key(self) -> str:
        return reauth_id(self.provider_id, self.connection_id)


class ConsentReceived(Message):
    """The owner came back with a code: it lies encrypted in the session's row."""

    session_id: UUID
    lifecycle_id: UUID


class Said(Message):
    """Who asks something of a lifecycle, and why. Both are kept."""

    by: str
    reason: str


class SaidUntil(Said):
    until: datetime


class Cancel(Said):
    """Either of the two: a blocked connection is given up, or left alone for a while; never forgotten."""

    disconnect: bool = False
    snooze_until: datetime | None = None


class ConsentDenied(Message):
    session_id: UUID
    lifecycle_id: UUID


class Repaired(Message):
    """The connection was repaired elsewhere, or given up by a person."""

    by: str
    reason: str


class RepairedElsewhere(Repaired):
    """The same, with whom to tell."""

    connection_id: UUID
    provider_id: str

    @property
    def workflow_id(self) -> str:
        return reauth_id(self.provider_id, self.connection_id)


class Lifecycle(Message):
    """What every step needs to know: whose, and under which lifecycle. Rows of another lifecycle are not touched."""

    connection_id: UUID
    lifecycle_id: UUID


class OpenLifecycle(Lifecycle):
    deadline: datetime
    opened_at: datetime | None = None
    """When the lifecycle began. Without it nobody is reminded: it began before there were reminders."""
    reminding: Reminding = Reminding()


class Opening(StrEnum):
    OPENED = "opened"
    ALREADY_REPAIRED = "already_repaired"
    """A newer credential than the one that was refused is active: nothing is broken any more."""
    DISCONNECTED = "disconnected"
    """Given up meanwhile: nobody is waiting for a consent."""
    LEFT = "left"
    """The platform may do nothing by itself just now. What was detected waits for it."""


class Opened(Message):
    opening: Opening
    session_id: UUID | None = None
    received: bool = False
    """The owner has answered this invitation already: whoever was to be told was not there any more."""
    why: str = ""
    account: str = ""
    """Masked."""
    since: datetime | None = None
    """Since when the connection is blocked, or somebody was asked."""
    remind_at: tuple[datetime, ...] = ()
    escalate_at: datetime | None = None
    """None: somebody has acknowledged the task, or nothing is blocked."""


class Order(Lifecycle):
    """What a person, or the clock, asks of a waiting lifecycle."""

    key: str
    """Names this order: carried out once, however often it arrives."""
    by: str
    reason: str


class Extend(Order):
    until: datetime


class Consent(Lifecycle):
    session_id: UUID
    deadline: datetime
    prove: bool = False
    """Prove and activate in the same step when that goes at once. Runs from before expect a step for each."""


class Exchange(StrEnum):
    CANDIDATE = "candidate"
    """The consent is good: its credential waits as a candidate for the proof."""
    INVITED_AGAIN = "invited_again"
    """It is not, and a fresh invitation says why."""
    STALE = "stale"
    """The session is not of this lifecycle, or was dealt with before."""


class Activation(StrEnum):
    ACTIVE = "active"
    VOID = "void"
    """The connection was given up while its consent was on the way: it is not brought back."""


class Proof(Message):
    works: bool
    why: str = ""
    activation: Activation | None = None
    """What became of it, when the step that proves also activates."""


class Exchanged(Message):
    exchange: Exchange
    version: int | None = None
    why: str = ""
    proof: Proof | None = None
    """What became of the candidate, when that was found out in the same step."""


class Candidate(Lifecycle):
    session_id: UUID
    version: int
    deadline: datetime


class Expire(Lifecycle):
    why: str
    deadline: datetime | None = None
    """The one that has passed. A later one of its invitation means that a person has given more time since."""


class ReauthOutcome(StrEnum):
    REPAIRED = "repaired"
    REPAIRED_ELSEWHERE = "repaired_elsewhere"
    EXPIRED = "expired"
    DISCONNECTED = "disconnected"
    LEFT = "left"
    """Nothing was done: the platform may not act by itself. Reconcile begins anew when it may."""


class ReauthResult(Message):
    outcome: ReauthOutcome
    why: str = ""
    version: int | None = None
