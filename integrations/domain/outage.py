"""A provider's outage: how far it reaches, what is done about it, and what its workflow is told and tells."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic import Field

from integrations.domain.automation import LONGEST
from integrations.domain.message import Message

OURS: Final = "ours"
"""Stands in a provider's place when several unrelated ones fail at once: then it is our own way out."""
DETECTOR: Final = "outage-detector"
"""The detector's workflow, and the name that it acts under."""
TASK: Final = "outage"
"""The kind of the operators' task: one open per provider."""
DONE: Final = "done"
"""The outcome of a parked job that was carried out afterwards. Every other one says why it was not."""


class Scope(StrEnum):
    """How far an outage reaches. What it does not reach is let alone."""

    PROVIDER = "provider"
    ENDPOINT = "endpoint"
    TENANT = "tenant"
    OURS = "ours"


class Step(StrEnum):
    """Where an outage's workflow is, in the order of a run without surprises."""

    SCOPE = "scope"
    CONTAIN = "contain"
    SHIELD = "shield"
    HOLD = "hold"
    PROBE = "probe"
    RAMP = "ramp"
    REPLAY = "replay"
    VALIDATE = "validate"
    CLOSE = "close"


class Brake(StrEnum):
    """What holds calls back, and what holds back what is done about their answers."""

    QUEUE = "queue"
    """The rate limit of a provider's task queue."""
    CIRCUIT = "circuit"
    """A row that the gate asks before each call of one endpoint."""
    TENANT = "tenant"
    """The limit of one fairness key of a provider's task queue."""
    SHIELD = "shield"
    """No terminal answer of the provider is acted on."""


class Ended(StrEnum):
    HEALED = "healed"
    UNFOUNDED = "unfounded"
    """Probes found nothing wrong: nothing was contained."""
    BY_HAND = "by_hand"
    """An operator closed it."""
    PASSED = "passed"
    """Seen while the platform does nothing by itself, and over by itself."""
    ABANDONED = "abandoned"
    """Its workflow was ended by hand: its leases ran out, and its brakes were released."""


class Cell(Message):
    """Calls of one endpoint for one tenant: a field of the failure matrix."""

    endpoint: str
    tenant: str
    """Empty: of several tenants who are counted together, since each of them is a small part of the trouble."""
    calls: int
    failing: int
    """Answered with trouble that is nobody's to mend: an outage, a throttle, a plea to come back."""
    tenants: int = 1
    """How many these are."""

    @property
    def who(self) -> str:
        return self.tenant or f"{self.tenants:,} others"


class Finding(Message):
    """What a look at recorded calls says of one provider, and the counts that say it."""

    provider_id: str
    scope: Scope
    names: tuple[str, ...] = ()
    """The endpoints, the tenants, or (of `ours`) the providers. Empty: the provider as a whole."""
    why: str
    window: timedelta | None = None
    """None: the last calls, over any time."""
    calls: int
    failing: int
    certain: bool = True
    """False: too few calls to tell. Probes decide."""
    ask: Scope | None = None
    """What these calls cannot tell of its reach: whether it is these `tenant`s' alone, or this `endpoint`'s alone."""
    matrix: tuple[Cell, ...] = ()
    """The fields with the most failures first, and not all of them when there are many."""


class Baseline(Message):
    """How a provider did before its trouble began."""

    since: datetime
    until: datetime
    rate: float
    """Calls per second."""
    usual: float = 100.0
    """Per cent of them that did not fail."""
    refreshes: int
    """Connections that were refreshed."""
    refreshed: int
    """Of these, answered at the last time, be it by a refusal."""
    uses: int
    """Connections whose capabilities were called."""
    used: int

    def __add__(self, other: "Baseline") -> "Baseline":
        """Of several providers: all their calls, and no more is asked of them than of the worst."""
        return Baseline(
            since=min(self.since, other.since),
            until=max(self.until, other.until),
            rate=self.rate + other.rate,
            usual=min(self.usual, other.usual),
            refreshes=self.refreshes + other.refreshes,
            refreshed=self.refreshed + other.refreshed,
            uses=self.uses + other.uses,
            used=self.used + other.used,
        )


class Looked(Message):
    """What a look of the detector came to."""

    every: timedelta
    """Until the next one."""
    failing: tuple[str, ...] = ()
    """A line for each outage that is found now: who, and why."""
    why_not: str | None = None
    """What keeps the platform from acting on them."""


class Success(Message):
    """How the connections of a provider do: each counts once, by its last call."""

    refreshes: int
    refreshed: int
    uses: int
    used: int


class Target(Message):
    """What one brake holds back."""

    provider_id: str
    brake: Brake
    name: str = ""
    """The endpoint or the tenant; empty for the provider's queue and its shield."""
    full: float = 0.0
    """Calls per second that are 100 % of the ramp: the smaller of the provider's limit and the rate before."""
    allowed: float | None = None
    """The provider's own limit, where it is known."""
    endpoints: tuple[str, ...] = ()
    """What failed there, and is probed."""

    @property
    def words(self) -> str:
        return _WORDS[self.brake].format(provider=self.provider_id, name=self.name)


_WORDS: Final = {
    Brake.QUEUE: "the queue of {provider}",
    Brake.CIRCUIT: "{name} at {provider}",
    Brake.TENANT: "{name} at {provider}",
    Brake.SHIELD: "the shield over {provider}",
}


class Cut(Message):
    """A brake, and what it lets through."""

    target: Target
    rate: float | None = Field(default=None, ge=0)
    """Calls per second. 0: none, but of a tenant, whose least is integrations/task_queues.py's. None: of a shield."""


def comes_back(rate: float) -> tuple[timedelta, timedelta]:
    """How soon, at the earliest and at the latest, a call is tried again that a circuit of this rate did not admit.

    Some of those that wait are there whenever the next one may go, and no more of them than that.
    """
    soonest = min(max(5 / rate, 1.0), 10.0) if rate else 10.0
    return timedelta(seconds=soonest), timedelta(seconds=3 * soonest)


class Before(Message):
    """What somebody else had said of a place in a queue, before a brake of ours was put on."""

    rate: float | None = None
    """Calls per second: of all together, or of each fairness key."""
    weight: float | None = None
    """Of this key."""


class Limits(Message):
    """What is an outage, and how its end is felt for. All of it is a setting, RUNBOOK_OUTAGE_*."""

    every: timedelta = timedelta(seconds=15)
    """Between two looks of the detector."""
    window: timedelta = timedelta(seconds=60)
    calls: int = 20
    share: int = 50
    """Per cent of these that are failing."""
    quiet_calls: int = 5
    """Of a provider with fewer calls than that: so many of the last ones in a row, over any time."""
    quiet_probes: int = 2
    lease: timedelta = timedelta(minutes=2)
    """For which a brake outlives its workflow."""
    probe_first: timedelta = timedelta(seconds=15)
    probe_most: timedelta = timedelta(minutes=2)
    """To which the wait between two probes doubles while they fail."""
    probes: int = 3
    """Successes in a row before the first step of the ramp."""
    step: timedelta = timedelta(seconds=30)
    """The least time of a step of the ramp."""
    step_calls: int = 10
    """The sample that a step is judged by."""
    step_share: int = 90
    """Per cent of these that have to be fine."""
    step_quiet: timedelta = timedelta(minutes=2)
    """After this a step is over whose sample is too small, when as much of it was fine as of a larger one has to be."""
    slack: int = 2
    """Points by which success may be under the baseline's when it is validated."""

    @property
    def recent(self) -> timedelta:
        """The short window: what begins in full traffic is seen within two looks."""
        return min(2 * self.every, self.window)

    def trickle(self, full: float) -> float:
        """Calls per second while it is contained: a fiftieth, one in two seconds at most and one in ten at least."""
        return min(max(full / 50, 0.1), 0.5)


RAMP: Final = (5, 10, 25, 50, 100)
"""Per cent of the full rate."""
CATCHING_UP: Final = 150
"""While parked jobs are done: live traffic alone may need all of the rate before."""
CATCHING_UP_MOST: Final = 2000
"""To which that grows by half, step by step, until they have had their turn: never above what the provider allows."""


class Word(Message):
    """A person's word to an outage: who, and why."""

    by: str = Field(min_length=1)
    reason: str = Field(min_length=1)


class Pin(Word):
    """A rate by a person's word: nothing changes it until it is taken off, or over."""

    rate: float = Field(ge=0, allow_inf_nan=False)
    """Calls per second."""
    hold: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0), le=LONGEST)
    """One that is forgotten ends by itself."""


class Isolate(Word):
    """Contain an endpoint or a tenant as well, or the whole provider when neither is named."""

    endpoint: str = ""
    tenant: str = ""
    hold: timedelta | None = Field(default=None, gt=timedelta(0), le=LONGEST)
    """All of the outage stays contained for so long at least."""


class Sample(Message):
    """What came of the calls that were let through."""

    calls: int = 0
    failing: int = 0

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(calls=self.calls + other.calls, failing=self.failing + other.failing)

    @property
    def words(self) -> str:
        return f"{self.calls - self.failing:,} of {self.calls:,} calls fine"

    def is_fine(self, limits: Limits, usual: float = 100.0) -> bool:
        """`usual`: per cent that did not fail before the trouble. Of what never did well no more is asked."""
        return (self.calls - self.failing) * 100 >= min(limits.step_share, usual - _WORSE) * self.calls

    def is_relapse(self, limits: Limits, usual: float = 100.0) -> bool:
        share = max(limits.share, 100 - usual + 2 * _WORSE)
        return self.failing >= SOME and self.failing * 100 >= share * self.calls


_WORSE: Final = 5
"""Points that a small sample may be off."""
SOME: Final = 3
"""Failures that say something: one or two are met every day."""


class Progress(Message):
    """Where an outage's workflow is: what a run hands on to the next one."""

    outage_id: UUID
    limits: Limits
    step: Step = Step.SCOPE
    scope: Scope = Scope.PROVIDER
    targets: tuple[Target, ...] = ()
    why: str = ""
    """What the last step said of it."""
    usual: float = 100.0
    """Per cent of calls that did not fail before the trouble."""
    ordered_until: datetime | None = None
    """Contained by a person's word until then, whatever probes say."""
    pin: Pin | None = None
    pinned_until: datetime | None = None
    held: str | None = None
    """What keeps the platform from acting by itself: all stays as it is."""
    percent: int = 0
    """Where the ramp is. 0: contained."""
    paced_at: datetime | None = None
    """Since when it is there."""
    sample: Sample = Sample()
    """What came of the calls since then, or of the last minutes."""
    successes: int = 0
    """Probes in a row that were fine."""
    probes: int = 0
    """How many were made: each asks something else."""
    unknown_since: datetime | None = None
    """Since when nothing tells how the provider is."""
    wait: timedelta | None = None
    """Before the next probe, when the last one failed."""
    next_probe: datetime | None = None
    looked_at: datetime | None = None
    relapses: int = 0
    replaying_since: datetime | None = None
    turns: int = 0
    """Batches of parked jobs that were told to go on."""

    @property
    def reach(self) -> str:
        return ", ".join(dict.fromkeys(each.words for each in self.targets))


class OutageRequest(Message):
    """Contain what is found at one provider, feel for its end, and bring everything back. A person may start one."""

    provider_id: str
    by: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    endpoint: str = ""
    tenant: str = ""
    """With `hold`: what a person wants contained; neither: the whole provider."""
    hold: timedelta | None = None
    """By a person's word: contained for so long at least, without asking how the provider is."""
    progress: Progress | None = None
    """Of the run before."""

    @property
    def key(self) -> str:
        return outage_id(self.provider_id)


class OutageResult(Message):
    outage_id: UUID
    ended: Ended
    why: str
    relapses: int = 0


def outage_id(provider_id: str) -> str:
    """The workflow's id."""
    return f"outage:{provider_id}"
