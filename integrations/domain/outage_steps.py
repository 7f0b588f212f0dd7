"""What the steps of an outage's workflow are told, and what they tell."""

from datetime import datetime, timedelta

from integrations.domain.message import Message
from integrations.domain.outage import Ended, Isolate, Limits, OutageRequest, Progress, Sample, Scope, Target, Word


class Probe(Message):
    """One call that was made to see how a provider is."""

    provider_id: str
    endpoint: str
    tenant: str
    fine: bool
    """It answered something that is about the call, be it a refusal."""
    why: str
    after: timedelta | None = None
    """How long it asks to be left alone."""


class Scoping(Message):
    """How far does it reach? With `wish`: as far as a person says."""

    request: OutageRequest
    progress: Progress
    wish: Isolate | None = None


class Scoped(Message):
    """How far an outage reaches."""

    scope: Scope
    names: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    """Empty: nothing is wrong, or nothing is known to be."""
    why: str
    clear: bool = True
    """False: look again before anything is contained."""
    after: timedelta | None = None
    """How long the provider asked its probes to leave it alone."""
    usual: float = 100.0
    """Per cent of its calls that did not fail before."""


class Tick(Message):
    """One look while brakes are on."""

    request: OutageRequest
    progress: Progress
    since: datetime
    """Of the calls that are counted."""
    step_since: datetime | None = None
    """Of all calls of a step of the ramp."""


class Look(Message):
    """What came of the calls that were let through, and of the probes."""

    sample: Sample = Sample()
    probes: tuple[Probe, ...] = ()
    wider: Scoped | None = None
    """It reaches further than what is contained."""
    silent: tuple[str, ...] = ()
    """Of our own way out: providers that do not answer, while others do by now."""
    whole: Sample | None = None
    """All calls of a step of the ramp, where those of its last part are few."""
    why_not: str | None = None
    """What keeps the platform from acting by itself: then nothing was asked, and nothing is to be changed."""

    @property
    def is_known(self) -> bool:
        """Did anything tell how the provider is?"""
        return bool(self.probes or self.sample.calls)

    def is_fine(self, limits: Limits, usual: float) -> bool:
        """Of what is not silent."""
        heard = [probe for probe in self.probes if probe.provider_id not in self.silent]
        return self.is_known and self.sample.is_fine(limits, usual) and all(probe.fine for probe in heard)

    @property
    def asked(self) -> timedelta | None:
        return max((probe.after for probe in self.probes if probe.after), default=None)

    @property
    def words(self) -> str:
        said = [probe.why for probe in self.probes]
        said += [self.sample.words] if self.sample.calls else []
        return "; ".join(said) or "nothing was called"


class Dropping(Message):
    """Providers that are not a part of it any more: what is wrong there is their own."""

    progress: Progress
    silent: tuple[str, ...]


class Closing(Message):
    request: OutageRequest
    progress: Progress
    ended: Ended
    word: Word


class Releasing(Message):
    """Let at most so many parked jobs go on, once those before them have an outcome."""

    request: OutageRequest
    progress: Progress
    most: int
    since: datetime
    """When the replay began: what is parked anew after it is left for later."""
    begins: bool
    """With this step: what was put off is due from now on."""


class Released(Message):
    """Jobs that were parked, refreshes that were put off, and how far they are."""

    parked: int = 0
    going: int = 0
    """Told to go on, and without an outcome yet."""
    done: int = 0
    late: int = 0
    """Told to go on long ago: nobody waits for these."""
    released: int = 0
    """By this very step."""
    refreshes: int = 0
    """Late ones that were not tried yet."""

    def __add__(self, other: "Released") -> "Released":
        return Released(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})

    @property
    def is_over(self) -> bool:
        return not self.parked and not self.going and not self.refreshes

    @property
    def words(self) -> str:
        said = f"{self.done:,} parked jobs done, {self.going:,} under way, {self.parked:,} wait for their turn"
        said += f", {self.late:,} take long" if self.late else ""
        return f"{said}; {self.refreshes:,} late refreshes are to be tried" if self.refreshes else said


class Validated(Message):
    passed: bool
    why: str
