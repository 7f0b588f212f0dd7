"""The steps of an outage's workflow. Each is safe to repeat: rows say what is on, and a line is written once."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities import parked
from activities.brakes import Brakes
from activities.heart import beating
from activities.outage_probe import Prober
from activities.outage_scope import Scoper
from integrations.db import automation, mitigations, outage_counts, outage_told, outages
from integrations.db import parked as parked_jobs
from integrations.db.parked import BATCH
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.automation import FailureMode
from integrations.domain.errors import StopError
from integrations.domain.outage import (
    OURS,
    SOME,
    Baseline,
    Brake,
    Cut,
    Limits,
    OutageRequest,
    OutageResult,
    Progress,
    Sample,
    Scope,
    Step,
    Target,
)
from integrations.domain.outage_baseline import validated
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
from integrations.domain.outage_targets import brakes, covers, rate_of, reach_of
from integrations.providers.oauth import Providers

_NAME: Final = "ProviderOutageWorkflow"


class OutageActivities:
    def __init__(self, sessions: Sessions, vault: Vault, providers: Providers, limits: Limits) -> None:
        self._sessions = sessions
        self._catalog = providers.catalog
        self._limits = limits
        self._brakes = Brakes(sessions)
        self._prober = Prober(sessions, vault, providers)
        self._scoper = Scoper(sessions, self._prober, self._catalog, limits)

    @activity.defn(name="outage.open")
    async def open(self, request: OutageRequest) -> Progress:
        """Begin, or go on with what the detector found. Raises CatalogError for a provider that nobody knows."""
        if request.provider_id != OURS:
            self._catalog.provider(request.provider_id)
        if request.tenant and not request.tenant.startswith(("user:", "org:")):
            raise StopError(f"tenant is {request.tenant!r}: write it like org:acme or user:ada")
        async with self._sessions.begin() as session:
            outage_id, opened = await outages.found(
                session,
                request.provider_id,
                scope=Scope.OURS if request.provider_id == OURS else Scope.PROVIDER,
                names=(),
                reason=request.reason,
                by=request.by,
            )
            # What the detector has found it has written down.
            if opened:
                await _note(session, outage_id, Step.SCOPE, f"opened by {request.by}: {request.reason}")
        until = datetime.now(UTC) + request.hold if request.hold is not None else None
        return Progress(outage_id=outage_id, limits=self._limits, ordered_until=until)

    @activity.defn(name="outage.scope")
    async def scope(self, asked: Scoping) -> Scoped:
        """How far it reaches: by the failure matrix, by probes where that leaves a doubt, or by a person's wish.

        What nobody ordered is unclear while the platform may not act by itself: nothing is put on.
        """
        is_ordered = asked.wish is not None or asked.request.hold is not None
        async with self._sessions.begin() as session:
            why_not = None if is_ordered else await automation.why_not(session, FailureMode.OUTAGE)
        if why_not is None:
            async with beating():
                scoped, before = await self._scoper.scope(asked)
        else:
            scoped, before = Scoped(scope=Scope.PROVIDER, why=why_not, clear=False), None
        known: dict[str, Any] = {}
        # Where something is held back already, the row says all of it: `contain` adds what is new.
        if not asked.progress.targets:
            known = {"scope": scoped.scope, "names": list(scoped.names)} if scoped.targets else {}
            known |= {"baseline": before.model_dump(mode="json")} if before is not None else {}
        async with self._sessions.begin() as session:
            await outages.at(session, asked.progress.outage_id, asked.progress.step, **known)
            said = scoped.scope if scoped.targets else "nothing" if scoped.clear else "unclear"
            await _note(session, asked.progress.outage_id, Step.SCOPE, f"{said}: {scoped.why}")
        return scoped

    @activity.defn(name="outage.contain")
    async def contain(self, tick: Tick) -> None:
        """Put the brakes on, at a trickle or at what a person has pinned; operators are told.

        The shield first: it is a row, and waits for no answer of Temporal's.
        """
        await self._put_on(tick, [each for each in tick.progress.targets if each.brake is Brake.SHIELD])
        await self._put_on(tick, brakes(tick.progress.targets))
        rate = _rate(tick.progress)
        async with self._sessions.begin() as session:
            known = tick.progress
            scope, names = reach_of(tick.request.provider_id, known.targets)
            await outages.at(session, known.outage_id, Step.CONTAIN, scope=scope, names=names)
            what = f"contained: {known.reach}, {rate:.2g} calls/s are let through"
            await _note(session, known.outage_id, Step.CONTAIN, what, percent=0, rate=rate)
            name = self._name(tick.request.provider_id)
            await outage_told.opened(session, known.outage_id, name=name, done=what)

    @activity.defn(name="outage.shield")
    async def shield(self, tick: Tick) -> None:
        """From now on no terminal answer is acted on there."""
        shields = [each for each in tick.progress.targets if each.brake is Brake.SHIELD]
        await self._put_on(tick, shields)
        async with self._sessions.begin() as session:
            await outages.at(session, tick.progress.outage_id, Step.SHIELD)
            what = "shielded: what is refused is set aside" if shields else "no shield: no grant is asked about there"
            await _note(session, tick.progress.outage_id, Step.SHIELD, what)

    @activity.defn(name="outage.keep")
    async def keep(self, tick: Tick) -> Look:
        """Renew the leases, set right what somebody else has changed, and see whether it reaches further."""
        await self._keep(tick)
        why_not = await self._why_not(tick)
        return Look(why_not=why_not) if why_not else Look(wider=await self._scoper.wider(tick))

    @activity.defn(name="outage.drop")
    async def drop(self, dropping: Dropping) -> None:
        """Let go of providers of our own way out that are silent while others answer: the detector has them now."""
        known = dropping.progress
        why = f"others answer again, and {', '.join(dropping.silent)} not: that is their own"
        await self._brakes.release(
            activity.client(), known.outage_id, by=_NAME, reason=why, only=frozenset(dropping.silent)
        )
        left = [each for each in known.targets if each.provider_id not in dropping.silent]
        async with self._sessions.begin() as session:
            await outages.at(session, known.outage_id, known.step, names=reach_of(OURS, left)[1])
            await _note(session, known.outage_id, known.step, why)

    @activity.defn(name="outage.probe")
    async def probe(self, tick: Tick) -> Look:
        """Ask the provider how it is, and count what came of the trickle."""
        known = tick.progress
        if why_not := await self._why_not(tick):
            return Look(why_not=why_not)
        async with beating():
            aims = brakes(known.targets)
            if tick.request.provider_id != OURS:
                # One of several, another each time: probes are calls, and a provider in trouble has enough of them.
                aims = aims[known.probes % len(aims) :][:1] if aims else []
            asked = await asyncio.gather(*(self._ask(each, known.probes) for each in aims))
            look = await self._look(tick)
        probes = tuple(each for each in asked if each is not None)
        mute = {each.provider_id for each in probes if not each.fine}
        # While nobody answers it is still ours.
        silent = tuple(sorted(mute)) if len(mute) < len({each.provider_id for each in probes}) else ()
        look = look.model_copy(update={"probes": probes, "silent": silent})
        async with self._sessions.begin() as session:
            await outages.at(session, known.outage_id, Step.PROBE)
            fine = look.is_fine(known.limits, known.usual)
            said = "fine" if fine else "nothing to be known" if not look.is_known else "not fine"
            await _note(session, known.outage_id, Step.PROBE, f"probe, {said}: {look.words}", facts=_facts(look.sample))
        return look

    @activity.defn(name="outage.pace")
    async def pace(self, tick: Tick) -> None:
        """Let through what the ramp is at, or what a person has pinned."""
        known = tick.progress
        await self._put_on(tick, brakes(known.targets))
        what = f"pinned by {known.pin.by}: {known.pin.reason}" if known.pin else f"{known.percent} % of the rate before"
        async with self._sessions.begin() as session:
            await outages.at(session, known.outage_id, known.step)
            await _note(session, known.outage_id, known.step, what, percent=known.percent, rate=_rate(known))

    @activity.defn(name="outage.sample")
    async def sample(self, tick: Tick) -> Look:
        """Keep the brakes as they are, and count what came of the calls that were let through."""
        await self._keep(tick)
        why_not = await self._why_not(tick)
        return Look(why_not=why_not) if why_not else await self._look(tick)

    @activity.defn(name="outage.replay")
    async def replay(self, asked: Releasing) -> Released:
        """Let the next parked jobs go on, once those before them have an outcome, and refreshes that were put off."""
        known, done = asked.progress, Released()
        async with self._sessions.begin() as session:
            await outages.at(session, known.outage_id, Step.REPLAY)
        for provider_id in self._providers(known):
            done += await self._replay(provider_id, asked)
        if done.released or done.is_over:
            async with self._sessions.begin() as session:
                await _note(session, known.outage_id, Step.REPLAY, done.words)
        return done

    @activity.defn(name="outage.validate")
    async def validate(self, tick: Tick) -> Validated:
        """Refreshes and capabilities since everything is let through, against the time before."""
        known = tick.progress
        async with self._sessions.begin() as session:
            row = await outages.find(session, known.outage_id)
            before = Baseline.model_validate(row.baseline) if row.baseline else None
            since = await outage_counts.success(session, self._providers(known), tick.since)
        lasted = datetime.now(UTC) - (known.paced_at or tick.since)
        outcome = validated(before, since, known.limits, lasted=lasted)
        async with self._sessions.begin() as session:
            await outages.at(session, known.outage_id, Step.VALIDATE)
            if outcome.passed:
                await _note(session, known.outage_id, Step.VALIDATE, f"passed: {outcome.why}")
        return outcome

    @activity.defn(name="outage.close")
    async def close(self, closing: Closing) -> OutageResult:
        """Take everything off, and tell people. What was set aside under the shield is due at once."""
        known, word = closing.progress, closing.word
        await self._brakes.release(activity.client(), known.outage_id, by=word.by, reason=word.reason)
        async with self._sessions.begin() as session:
            since = known.replaying_since or datetime.now(UTC)
            caught_up = await outage_counts.success(session, self._providers(known), since)
            what = f"{closing.ended} ({word.by}): {word.reason}"
            await _note(session, known.outage_id, Step.CLOSE, what, percent=100 if known.targets else None)
            if await outages.close(session, known.outage_id, closing.ended, by=word.by, reason=word.reason):
                name = self._name(closing.request.provider_id)
                await outage_told.closed(session, known.outage_id, name=name, refreshes=caught_up.refreshed)
        await self._let_go(known)
        return OutageResult(outage_id=known.outage_id, ended=closing.ended, why=word.reason, relapses=known.relapses)

    async def _let_go(self, known: Progress) -> None:
        """Jobs that were parked while others were replayed: nothing holds them back any more."""
        for provider_id in self._providers(known):
            told = BATCH
            while told == BATCH:
                told = await parked.release(activity.client(), self._sessions, provider_id, BATCH, by=_NAME)
                activity.heartbeat()

    async def _replay(self, provider_id: str, asked: Releasing) -> Released:
        async with self._sessions.begin() as session:
            if asked.begins:
                await parked_jobs.refreshes_due(session, provider_id, _full(asked.progress, provider_id))
            waits = await parked_jobs.replaying(session, provider_id, asked.since)
        known = Released(**waits.model_dump())
        if waits.going or not waits.parked:
            return known
        told = await parked.release(
            activity.client(), self._sessions, provider_id, asked.most, by=_NAME, before=asked.since
        )
        return known.model_copy(update={"parked": waits.parked - told, "going": told, "released": told})

    async def _put_on(self, tick: Tick, targets: Sequence[Target]) -> None:
        known = tick.progress
        cuts = [Cut(target=each, rate=rate_of(each, known)) for each in targets]
        reason = known.pin.reason if known.pin else known.why or tick.request.reason
        by = known.pin.by if known.pin else _NAME
        await self._brakes.put_on(activity.client(), known.outage_id, cuts, known.limits.lease, reason=reason, by=by)

    async def _keep(self, tick: Tick) -> None:
        held = await self._brakes.hold(activity.client(), tick.progress.outage_id, tick.progress.limits.lease)
        async with self._sessions.begin() as session:
            lines = await mitigations.on(session, tick.progress.outage_id)
        there = {(each.provider_id, each.brake, each.name) for each in lines}
        # What reconcile took off, when nobody had renewed it for long; or what another outage held, which is over.
        missing = [each for each in tick.progress.targets if (each.provider_id, each.brake, each.name) not in there]
        if missing:
            await self._put_on(tick, missing)
        async with self._sessions.begin() as session:
            await outages.at(session, tick.progress.outage_id, tick.progress.step)
            for provider_id in held.mended:
                what = f"the queue of {provider_id} did not say what the journal says: set right"
                await _note(session, tick.progress.outage_id, tick.progress.step, what)

    async def _why_not(self, tick: Tick) -> str | None:
        """What keeps the platform from acting by itself now, written down for people: what is on stays as it is."""
        known = tick.progress
        async with self._sessions.begin() as session:
            why_not = await automation.why_not(session, FailureMode.OUTAGE)
            await outages.at(session, known.outage_id, known.step, why_not=why_not)
            if why_not is not None:
                what = f"all stays as it is: {why_not}"
                await outages.note(session, known.outage_id, f"held: {why_not}", known.step, what)
        return why_not

    async def _ask(self, target: Target, number: int) -> Probe | None:
        """Probe what failed there, or what else can be asked without an effect. None: nothing."""
        among = (target.name,) if target.brake is Brake.TENANT else ()
        if target.brake is Brake.CIRCUIT:
            return await self._prober.ask(target.provider_id, target.name)
        for turn in range(len(target.endpoints)):
            endpoint = target.endpoints[(number + turn) % len(target.endpoints)]
            probe = await self._prober.ask(target.provider_id, endpoint, among=among)
            if probe is not None:
                return probe
        return await self._prober.ask(target.provider_id, among=among)

    async def _look(self, tick: Tick) -> Look:
        known = tick.progress
        samples = await self._counted(known, tick.since)
        bad = [name for name, each in samples.items() if each.is_relapse(known.limits, known.usual)]
        silent = tuple(bad) if len(bad) < len([each for each in samples.values() if each.calls]) else ()
        sample, whole = _of_all_but(silent, samples), None
        if tick.step_since and sample.calls < SOME:
            whole = _of_all_but(silent, await self._counted(known, tick.step_since))
        return Look(sample=sample, whole=whole, silent=silent, wider=await self._scoper.wider(tick))

    async def _counted(self, known: Progress, since: datetime) -> dict[str, Sample]:
        """What came of the calls of what is contained, by provider."""
        samples = {each: Sample() for each in self._providers(known)}
        for provider_id in samples:
            async with self._sessions.begin() as session:
                cells = await outage_counts.let_through(session, provider_id, since)
            for each in cells:
                if covers(known.targets, provider_id, each.endpoint, each.tenant):
                    samples[provider_id] += Sample(calls=each.calls, failing=each.failing)
        return samples

    def _providers(self, known: Progress) -> list[str]:
        return sorted({each.provider_id for each in known.targets})

    def _name(self, provider_id: str) -> str:
        return next((each.name for each in self._catalog if each.id == provider_id), provider_id)


def _of_all_but(silent: Sequence[str], samples: Mapping[str, Sample]) -> Sample:
    return sum((each for name, each in samples.items() if name not in silent), start=Sample())


async def _note(
    session: AsyncSession,
    outage_id: Any,
    step: Step,
    what: str,
    **more: Any,
) -> None:
    """A line of the timeline: this very step's, however often it is tried."""
    info = activity.info()
    await outages.note(session, outage_id, f"{info.workflow_run_id}:{info.activity_id}", step, what, **more)


def _rate(known: Progress) -> float:
    """What is let through of all that is held back."""
    return sum(rate_of(each, known) or 0.0 for each in brakes(known.targets))


def _full(known: Progress, provider_id: str) -> float:
    return sum(each.full for each in brakes(known.targets) if each.provider_id == provider_id)


def _facts(sample: Sample) -> dict[str, Any]:
    return sample.model_dump(mode="json")
