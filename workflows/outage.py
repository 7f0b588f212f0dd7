"""An outage of one provider: contained, felt for its end, brought back step by step, and proven to be over.

scope ──nothing wrong──▶ closed
  └──▶ contain ──▶ shield ──▶ hold and probe ──enough successes──▶ ramp 5 ▶ 10 ▶ 25 ▶ 50 ▶ 100 %
          ▲                      │ fails: waits longer                │ worse: a step down
          └──────────────────────┴─── it reaches further, or relapses ┤
                                                               100 %  └──▶ replay ──▶ validate ──▶ close

Each turn of the loop is one look. What it knows is `Progress`, which a run that has become long hands on to the next.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.outage import OutageActivities
    from integrations.domain.outage import (
        CATCHING_UP,
        CATCHING_UP_MOST,
        Ended,
        Isolate,
        Limits,
        OutageRequest,
        OutageResult,
        Pin,
        Step,
        Word,
    )
    from integrations.domain.outage_ramp import Judged, above, below, judge, next_wait
    from integrations.domain.outage_steps import (
        Closing,
        Dropping,
        Look,
        Released,
        Releasing,
        Scoped,
        Scoping,
        Tick,
        Validated,
    )
    from workflows.options import OUTAGE_PROBE, OUTAGE_STEP, Timing
    from workflows.outage_asked import OutageAsked, Unpin
    from workflows.story import Story

R = TypeVar("R")
_LOOKS: Final = 6
"""In the least time of a step: how soon a relapse is seen."""
_UNCLEAR: Final = 5
"""Looks at what is unclear, before it is left to the detector again."""
_BATCHES: Final = (1, 10, 100)
"""Parked jobs that go on together: a little first."""
_PINNABLE: Final = frozenset({Step.HOLD, Step.PROBE, Step.RAMP, Step.REPLAY, Step.VALIDATE})
_LATE: Final = timedelta(seconds=1)
"""A call may be written down so long after it was answered."""
_REMEMBERED: Final = timedelta(hours=1)
"""Whatever is still tried is tried within this: what failed before, and was not called since, is nobody's any more."""


@workflow.defn(name="ProviderOutageWorkflow")
class ProviderOutageWorkflow(OutageAsked):
    """One open run per provider: the workflow's id is the lock."""

    @workflow.init
    def __init__(self, request: OutageRequest) -> None:
        self._request = request
        self._heard: list[Word] = []
        self._closing: Word | None = None
        self._is_over = False
        self._is_contained = request.progress is not None and bool(request.progress.targets)
        self._number = 0
        step = request.progress.step if request.progress else Step.SCOPE
        self._story = Story([each.value for each in Step], now=_found_as(step))
        self._turns = {
            Step.SCOPE: self._scope,
            Step.CONTAIN: self._contain,
            Step.SHIELD: self._shield,
            Step.HOLD: self._hold,
            Step.PROBE: self._probe,
            Step.RAMP: self._ramp,
            Step.REPLAY: self._replay,
            Step.VALIDATE: self._validate,
        }

    @workflow.run
    async def run(self, request: OutageRequest) -> OutageResult:
        self._progress = request.progress or await self._do(
            OutageActivities.open, request, "open", f"{request.reason} (by {request.by})"
        )
        try:
            while self._progress.step is not Step.CLOSE:
                self._know(step=await self._obeyed(await self._turn()))
                is_over = self._progress.step is Step.CLOSE
                if workflow.info().is_continue_as_new_suggested() and not is_over:
                    await workflow.wait_condition(workflow.all_handlers_finished)
                    workflow.continue_as_new(request.model_copy(update={"progress": self._progress}))
        except (asyncio.CancelledError, ActivityError) as error:
            if not is_cancelled_exception(error):
                raise
            # As `temporal workflow cancel` does: what is on is taken off all the same.
            self._closing = Word(by="Temporal", reason="the workflow was cancelled")
        return await self._close()

    async def _turn(self) -> Step:
        known = self._progress
        if known.step in _PINNABLE and known.pin:
            return await self._pinned()
        if known.step in _PINNABLE and known.held:
            return await self._halted()
        return await self._turns[known.step]()

    async def _scope(self) -> Step:
        self._show("how far does it reach?")
        for _ in range(_UNCLEAR):
            scoped = await self._scoped(None)
            if scoped.clear or self._heard:
                break
            await self._rest(self._limits.every, f"unclear, look again: {scoped.why}")
        targets = scoped.targets if scoped.clear else ()
        self._know(scope=scoped.scope, why=scoped.why, targets=targets, usual=scoped.usual)
        if scoped.after is not None:
            self._know(next_probe=workflow.now() + next_wait(None, self._limits, scoped.after))
        return Step.CONTAIN if self._progress.targets else Step.CLOSE

    async def _contain(self) -> Step:
        self._know(percent=0, paced_at=None, successes=0, wait=None, turns=0, replaying_since=None)
        self._show("calls are held back to a trickle")
        await self._do(OutageActivities.contain, self._tick(), "contain", f"a trickle: {self._progress.reach}")
        return Step.SHIELD

    async def _shield(self) -> Step:
        self._show("what the provider refuses is not acted on")
        await self._do(OutageActivities.shield, self._tick(), "shield", "nobody is demoted while it lasts")
        return Step.HOLD

    async def _hold(self) -> Step:
        """Wait for the next probe, the brakes being kept on."""
        until = self._progress.next_probe or workflow.now() + self._limits.probe_first
        self._know(next_probe=until)
        self._show(f"jobs wait in the queue; the next probe is at {until:%H:%M:%S} UTC")
        wider = await self._kept()
        if wider is not None:
            return wider
        await self._rest(min(until - workflow.now(), self._often), f"hold {self._progress.reach}")
        return Step.PROBE if workflow.now() >= until else Step.HOLD

    async def _probe(self) -> Step:
        self._show("does it answer again?")
        known, limits, now = self._progress, self._limits, workflow.now()
        look = await self._probed()
        self._know(held=look.why_not if look else None)
        if self._progress.held:
            return Step.PROBE
        if look is None or look.is_known:
            self._know(unknown_since=None)
        if look is None:
            # What was not heard out is no success either.
            why = "the probe was not heard out"
            self._know(successes=0, wait=next_wait(known.wait, limits), why=why)
        elif look.is_fine(limits, known.usual):
            self._know(successes=known.successes + 1, wait=None, why=look.words)
        elif look.is_known:
            self._know(successes=0, wait=next_wait(known.wait, limits, look.asked), why=look.words)
        else:
            self._know(unknown_since=known.unknown_since or now, why="nothing there can be asked without an effect")
        next_probe = workflow.now() + (self._progress.wait or limits.probe_first)
        self._know(next_probe=next_probe, looked_at=now, probes=known.probes + 1)
        if look is not None and look.wider and (wider := self._wider(look.wider)):
            return wider
        if known.ordered_until is not None and workflow.now() < known.ordered_until:
            return Step.HOLD
        if self._progress.successes >= limits.probes:
            if look is not None and look.silent:
                await self._drop(look)
            return Step.RAMP
        since = self._progress.unknown_since
        # Jobs that are parked call nobody: a little of them tells more than to wait for ever.
        return Step.RAMP if since and workflow.now() - since >= limits.step_quiet else Step.HOLD

    async def _ramp(self) -> Step:
        if self._progress.paced_at is None:
            await self._pace(self._progress.percent or above(0) or 100)
        look = await self._sampled()
        if look.why_not:
            return Step.RAMP
        if look.wider and (wider := self._wider(look.wider)):
            return wider
        percent, paced_at = self._progress.percent, self._progress.paced_at
        lasted = workflow.now() - paced_at if paced_at else timedelta(0)
        judged = judge(look.sample, lasted, self._limits, self._progress.usual, look.whole)
        following = {Judged.UP: above(percent), Judged.DOWN: below(percent)}.get(judged)
        if judged is Judged.UP and following is None:
            return Step.REPLAY
        if judged is Judged.RELAPSE or (judged is Judged.DOWN and following is None):
            return self._relapse(look)
        if following is not None:
            self._story.note(f"{percent} %: {look.sample.words}; {judged} to {following} %")
            await self._pace(following)
        return Step.RAMP

    async def _pinned(self) -> Step:
        """Hold a person's rate, until its time is over or somebody says something else."""
        pin, until = self._progress.pin, self._progress.pinned_until
        assert pin is not None
        assert until is not None
        if workflow.now() >= until:
            self._story.note(f"the pin by {pin.by} is over")
            return self._unpinned()
        self._show(f"pinned by {pin.by} until {until:%Y-%m-%d %H:%M} UTC: {pin.reason}")
        wider = await self._kept()
        await self._rest(min(until - workflow.now(), self._often), f"pinned at {pin.rate:g} calls/s by {pin.by}")
        return wider or self._progress.step

    async def _halted(self) -> Step:
        """Leave all as it is while the platform may not act by itself; what people say is done."""
        self._show(f"all stays as it is: {self._progress.held}")
        await self._rest(self._often, f"all stays as it is: {self._progress.held}")
        return await self._kept() or self._progress.step

    def _unpinned(self) -> Step:
        """Where to go on."""
        self._know(pin=None, pinned_until=None, paced_at=None)
        return Step.RAMP if self._progress.percent else Step.CONTAIN

    async def _replay(self) -> Step:
        turn, begins = self._progress.turns, self._progress.replaying_since is None
        self._know(replaying_since=self._progress.replaying_since or workflow.now())
        most = _BATCHES[min(turn, len(_BATCHES) - 1)]
        released: Released = await self._do(
            OutageActivities.replay,
            Releasing(
                request=self._request_kept,
                progress=self._progress,
                most=most,
                since=self._since(),
                begins=begins,
            ),
            "replay",
            f"at most {most} parked jobs, and late refreshes, behind live traffic",
        )
        self._know(turns=turn + (released.released > 0), why=released.words)
        self._show(released.words)
        if released.is_over:
            return Step.VALIDATE
        if self._progress.percent < CATCHING_UP:
            await self._pace(CATCHING_UP)
        look = await self._sampled()
        back = self._back(look)
        if back is None and not look.why_not:
            await self._catch_up(look)
        return back or Step.REPLAY

    async def _catch_up(self, look: Look) -> None:
        """Faster, as long as that goes well: live traffic comes first, and may by now be more than it was before."""
        known, since = self._progress, self._progress.paced_at
        lasted = workflow.now() - since if since else timedelta(0)
        faster = known.percent * 3 // 2
        if faster <= CATCHING_UP_MOST and judge(look.sample, lasted, self._limits, known.usual) is Judged.UP:
            await self._pace(faster)

    async def _validate(self) -> Step:
        tick = self._tick(_REMEMBERED)
        validated: Validated = await self._do(
            OutageActivities.validate, tick, "validate", "refreshes and capabilities against the time before"
        )
        self._know(why=validated.why)
        if validated.passed:
            return Step.CLOSE
        self._show(f"it stays open: {validated.why}")
        look = await self._sampled()
        return self._back(look) or Step.VALIDATE

    async def _close(self) -> OutageResult:
        """However it ended: nothing stays on."""
        known = self._progress
        ended = Ended.HEALED if known.targets else Ended.UNFOUNDED
        word = Word(by=workflow.info().workflow_type, reason=known.why or ended)
        if self._closing is not None:
            ended, word = Ended.BY_HAND, self._closing
        self._know(step=Step.CLOSE)
        self._is_over = True
        self._show(word.reason)
        closing = Closing(request=self._request_kept, progress=self._progress, ended=ended, word=word)
        result: OutageResult = await self._do(
            OutageActivities.close, closing, "close", f"{ended}: everything off, people told"
        )
        await workflow.wait_condition(workflow.all_handlers_finished)
        return result

    async def _obeyed(self, following: Step) -> Step:
        """Where to go, after what people have said meanwhile."""
        while self._heard:
            word, self._heard = self._heard[0], self._heard[1:]
            self._story.note(f"{type(word).__name__.lower()} by {word.by}: {word.reason}")
            if isinstance(word, Isolate):
                following = self._wider(await self._scoped(word)) or following
                if word.hold is not None:
                    following = self._ordered(workflow.now() + word.hold, following)
            elif isinstance(word, Pin):
                self._know(pin=word, pinned_until=workflow.now() + word.hold)
                await self._do(OutageActivities.pace, self._tick(), "pin", f"{word.rate:g} calls/s, by {word.by}")
            elif isinstance(word, Unpin):
                following = self._unpinned() if self._progress.pin and self._progress.targets else following
            else:
                self._closing, self._is_over = word, True
                return Step.CLOSE
        return following

    def _ordered(self, until: datetime, following: Step) -> Step:
        """Where to go, for it to stay contained until then."""
        self._know(ordered_until=max(until, self._progress.ordered_until or until))
        is_let_through = following in {Step.RAMP, Step.REPLAY, Step.VALIDATE, Step.CLOSE}
        return Step.CONTAIN if is_let_through and self._progress.targets else following

    def _back(self, look: Look) -> Step | None:
        """Where to go when what was over is not. None: it is, or it is not to be asked."""
        if look.wider and (wider := self._wider(look.wider)):
            return wider
        is_relapse = look.sample.is_relapse(self._limits, self._progress.usual)
        return self._relapse(look) if is_relapse else None

    def _wider(self, scoped: Scoped) -> Step | None:
        """Contain that as well; what is contained stays so. None: all of it is contained."""
        had = {(each.provider_id, each.brake, each.name) for each in self._progress.targets}
        more = [each for each in scoped.targets if (each.provider_id, each.brake, each.name) not in had]
        if not more:
            return None
        self._story.note(f"it reaches further: {scoped.why}")
        self._know(scope=scoped.scope, why=scoped.why, targets=(*self._progress.targets, *more))
        return Step.CONTAIN

    def _relapse(self, look: Look) -> Step:
        self._story.note(f"a relapse at {self._progress.percent} %: {look.sample.words}")
        self._know(relapses=self._progress.relapses + 1, why=f"relapsed: {look.sample.words}", next_probe=None)
        return Step.CONTAIN

    async def _pace(self, percent: int) -> None:
        self._know(percent=percent, paced_at=workflow.now())
        self._show(f"{percent} % of the rate before")
        await self._do(OutageActivities.pace, self._tick(), f"{percent} percent", f"ramp to {percent} %")

    async def _sampled(self) -> Look:
        """Rest a little, with the brakes kept on, and count what came of the calls."""
        percent = self._progress.percent
        await self._rest(max(self._limits.step / _LOOKS, timedelta(milliseconds=500)), f"at {percent} %")
        tick = self._tick()
        if self._progress.step is Step.RAMP:
            # Where calls are rare, what failed at a step's beginning counts to its end.
            tick = tick.model_copy(update={"step_since": self._tick(_REMEMBERED).since})
        look: Look = await self._do(OutageActivities.sample, tick, "sample", f"how {percent} % went")
        self._know(held=look.why_not)
        if look.why_not:
            return look
        self._know(sample=look.sample, looked_at=workflow.now())
        if look.silent:
            await self._drop(look)
        if self._progress.step is Step.RAMP:
            self._show(f"{percent} %: {look.sample.words}")
        return look

    async def _probed(self) -> Look | None:
        try:
            look: Look = await self._do(
                OutageActivities.probe, self._tick(), "probe", f"probe {self._progress.reach}", OUTAGE_PROBE
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return None
        return look

    async def _scoped(self, wish: Isolate | None) -> Scoped:
        asked = Scoping(request=self._request_kept, progress=self._progress, wish=wish)
        said = f"as {wish.by} wants it" if wish else "the failure matrix, and probes"
        scoped: Scoped = await self._do(OutageActivities.scope, asked, "scope", said)
        return scoped

    async def _kept(self) -> Step | None:
        """Renew the leases. Where to go, if it reaches further by now."""
        look: Look = await self._do(OutageActivities.keep, self._tick(), "hold", "renew the leases of the brakes")
        self._know(held=look.why_not)
        return self._wider(look.wider) if look.wider else None

    async def _drop(self, look: Look) -> None:
        """What answers goes on without what does not."""
        dropping = Dropping(progress=self._progress, silent=look.silent)
        left = tuple(each for each in self._progress.targets if each.provider_id not in look.silent)
        self._know(targets=left)
        self._story.note(f"{', '.join(look.silent)} answers nothing while others do: no part of it any more")
        await self._do(OutageActivities.drop, dropping, "drop", f"let go of {', '.join(look.silent)}")

    async def _rest(self, how_long: timedelta, what: str) -> None:
        """Until it is time, or somebody has said something."""
        if how_long <= timedelta(0):
            return
        with suppress(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: bool(self._heard), timeout=how_long, timeout_summary=what[:150])

    async def _do(
        self, step: Callable[..., Any], told: Any, name: str, summary: str, timing: Timing = OUTAGE_STEP
    ) -> Any:
        self._number += 1
        return await workflow.execute_activity_method(
            step, told, activity_id=f"{name}-{self._number}", summary=summary[:150], **timing
        )

    def _tick(self, back: timedelta | None = None) -> Tick:
        """The calls that count: since this rate, or since the last look; of a long time only the last part.

        `back`: so much of it at least. Without, what is seen soon: a relapse.
        """
        known, now = self._progress, workflow.now()
        since = (known.paced_at or known.looked_at or now) - _LATE
        recent = 3 * max(self._limits.window, self._limits.step)
        return Tick(request=self._request_kept, progress=known, since=max(since, now - max(recent, back or recent)))

    def _know(self, **changes: Any) -> None:
        self._progress = self._progress.model_copy(update=changes)
        self._is_contained = bool(self._progress.targets)

    def _show(self, doing: str) -> None:
        known = self._progress
        facts = [("why", known.why)] if known.why else []
        if known.targets:
            let = f"pinned at {known.pin.rate:g} calls/s" if known.pin else f"{known.percent or 'a trickle, 0'} %"
            facts += [("contained", f"{known.scope}: {known.reach}"), ("let through", let)]
        if known.ordered_until:
            facts.append(("ordered", f"contained until {known.ordered_until:%Y-%m-%d %H:%M} UTC, whatever probes say"))
        if known.relapses:
            facts.append(("relapses", str(known.relapses)))
        self._story.at(
            known.step,
            doing=doing,
            facts=facts,
            unblock=f"runbook outage explain {self._request.provider_id}",
            found_as=_found_as(known.step),
        )

    @property
    def _request_kept(self) -> OutageRequest:
        """Without what a run before handed on: that goes along by itself."""
        return self._request.model_copy(update={"progress": None})

    def _since(self) -> datetime:
        since = self._progress.replaying_since
        assert since is not None
        return since

    @property
    def _limits(self) -> Limits:
        return self._progress.limits

    @property
    def _often(self) -> timedelta:
        """No lease runs out, and what reaches further is seen as soon as the detector sees it elsewhere."""
        return min(self._limits.lease / 3, self._limits.every)


def _found_as(step: Step) -> str:
    """A hold and its probes take turns: as a search attribute they are one."""
    return Step.HOLD if step is Step.PROBE else step
