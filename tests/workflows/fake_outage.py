"""A provider in trouble, in memory: it fails until it has been probed so often, and as often as it is told to again."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from temporalio import activity

from activities.outage import OutageActivities
from integrations.domain.outage import (
    Brake,
    Isolate,
    Limits,
    OutageRequest,
    OutageResult,
    Progress,
    Sample,
    Scope,
    Target,
)
from integrations.domain.outage_steps import (
    Closing,
    Dropping,
    Look,
    Probe,
    Released,
    Releasing,
    Scoped,
    Scoping,
    Tick,
    Validated,
)
from integrations.domain.outage_targets import rate_of

OUTAGE: Final = UUID("00000000-0000-4000-8000-0000000000aa")
QUEUE: Final = Target(provider_id="simulator", brake=Brake.QUEUE, full=10.0)
SHIELD: Final = Target(provider_id="simulator", brake=Brake.SHIELD)
CIRCUIT: Final = Target(provider_id="simulator", brake=Brake.CIRCUIT, name="notes.read", full=10.0)


class FakeOutage(OutageActivities):
    def __init__(
        self,
        *,
        down_for: int = 2,
        samples: Sequence[Sample] = (),
        scoped: Sequence[Scoped] = (),
        parked: int = 0,
        late: int = 0,
        validated: Sequence[bool] = (),
        asks: timedelta | None = None,
        wider: Sequence[Scoped | None] = (),
        reaches: Scoped | None = None,
        is_mute: bool = False,
        silent: Sequence[str] = (),
        demand: float = 0.0,
        limits: Limits = Limits(),
    ) -> None:
        """`down_for`: probes that fail. `samples`, `wider`: of the first looks of the ramp; then all is fine.

        `reaches`: what each look while brakes are kept says. `is_mute`: nothing can be probed. `silent`: of our own way
        out, providers that do not answer. `demand`: of live traffic, in whose way no parked job gets a turn. `late`:
        refreshes that were put off, of which each look of the replay finds one less.
        """
        self._demand = demand
        self.reaches = reaches
        self._is_mute = is_mute
        self._silent = tuple(silent)
        self.down_for = down_for
        self._samples = list(samples)
        self._found = list(scoped)
        self._parked = parked
        self._late = late
        self._validated = list(validated)
        self._asks = asks
        self._wider = list(wider)
        self._limits = limits
        self.did: list[str] = []
        """What was done, each step once in a row."""
        self.rates: list[float] = []
        """What was let through, one after the other."""
        self.probes = 0
        self.asked: list[datetime] = []
        """When it was probed."""
        self.going = 0
        self.replayed: list[int] = []
        self.begun = 0
        """How often what was put off was made due."""
        self.kept = 0
        self.why_not: str | None = None
        """What keeps the platform from acting by itself."""
        self.closed: Closing | None = None
        self.wishes: list[Isolate] = []

    @property
    def steps(self) -> list[Callable[..., Any]]:
        return [
            self.open,
            self.scope,
            self.contain,
            self.shield,
            self.keep,
            self.drop,
            self.probe,
            self.pace,
            self.sample,
            self.replay,
            self.validate,
            self.close,
        ]

    def _do(self, what: str) -> None:
        if self.did[-1:] != [what]:
            self.did.append(what)

    @activity.defn(name="outage.open")
    async def open(self, request: OutageRequest) -> Progress:
        self._do("open")
        until = activity.info().scheduled_time + request.hold if request.hold else None
        return Progress(outage_id=OUTAGE, limits=self._limits, ordered_until=until)

    @activity.defn(name="outage.scope")
    async def scope(self, asked: Scoping) -> Scoped:
        self._do("scope")
        if asked.wish is not None:
            self.wishes.append(asked.wish)
            return Scoped(scope=Scope.ENDPOINT, names=("notes.read",), targets=(CIRCUIT,), why="wished")
        if self._found:
            return self._found.pop(0)
        return Scoped(scope=Scope.PROVIDER, targets=(QUEUE, SHIELD), why="everything fails")

    @activity.defn(name="outage.contain")
    async def contain(self, tick: Tick) -> None:
        self._do("contain")
        self._let(tick)

    @activity.defn(name="outage.shield")
    async def shield(self, tick: Tick) -> None:
        self._do("shield")

    @activity.defn(name="outage.keep")
    async def keep(self, tick: Tick) -> Look:
        self.kept += 1
        return Look(why_not=self.why_not) if self.why_not else Look(wider=self.reaches)

    @activity.defn(name="outage.drop")
    async def drop(self, dropping: Dropping) -> None:
        self._do(f"drop {' '.join(dropping.silent)}")

    @activity.defn(name="outage.probe")
    async def probe(self, tick: Tick) -> Look:
        if self.why_not:
            return Look(why_not=self.why_not)
        self._do("probe")
        self.probes += 1
        self.asked.append(activity.info().scheduled_time)
        if self._is_mute:
            return Look(wider=self.reaches)
        fine = self.probes > self.down_for
        probe = Probe(
            provider_id="simulator",
            endpoint="notes.read",
            tenant="org:acme",
            fine=fine,
            why="200" if fine else "503",
            after=None if fine else self._asks,
        )
        return Look(probes=(probe,), silent=self._silent, wider=self.reaches)

    @activity.defn(name="outage.pace")
    async def pace(self, tick: Tick) -> None:
        self._do(f"pin {tick.progress.pin.rate:g}" if tick.progress.pin else f"{tick.progress.percent} %")
        self._let(tick)

    @activity.defn(name="outage.sample")
    async def sample(self, tick: Tick) -> Look:
        self.kept += 1
        if self.why_not:
            return Look(why_not=self.why_not)
        sample = self._samples.pop(0) if self._samples else Sample(calls=20)
        return Look(sample=sample, wider=self._wider.pop(0) if self._wider else None)

    @activity.defn(name="outage.replay")
    async def replay(self, asked: Releasing) -> Released:
        self._do("replay")
        self.begun += asked.begins
        late, self._late = self._late, max(0, self._late - 1)
        if self.going and self.rates[-1] <= self._demand:
            return Released(parked=self._parked, going=self.going, refreshes=late)
        if self.going:
            self.going = 0
            return Released(parked=self._parked, refreshes=late)
        told = min(asked.most, self._parked)
        self._parked, self.going = self._parked - told, told
        self.replayed += [told] if told else []
        return Released(parked=self._parked, going=told, released=told, refreshes=late)

    @activity.defn(name="outage.validate")
    async def validate(self, tick: Tick) -> Validated:
        self._do("validate")
        passed = self._validated.pop(0) if self._validated else True
        return Validated(passed=passed, why="as before" if passed else "refreshes: 3 of 9")

    @activity.defn(name="outage.close")
    async def close(self, closing: Closing) -> OutageResult:
        self._do("close")
        self.closed = closing
        return OutageResult(
            outage_id=OUTAGE, ended=closing.ended, why=closing.word.reason, relapses=closing.progress.relapses
        )

    def _let(self, tick: Tick) -> None:
        self.rates.append(rate_of(tick.progress.targets[0], tick.progress) or 0.0)
