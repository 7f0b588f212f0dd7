"""What people may ask of a replay that runs. Absolute values: each update is safe to send twice.

Pause, resume and pace stand in the plan's row, where the drain reads them; one after the other, so that the row says
what the last of them wanted.
"""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.replay import ReplayActivities
    from integrations.domain.errors import WrongUsageError
    from integrations.domain.replay import Approval, Pace, Repace, ReplayRequest, Said, Seen
    from integrations.domain.replay_pace import Stage, check_rate
    from workflows.options import DATABASE
    from workflows.story import Story

_DATA = 'Data: {"by": "you", "reason": "why"}'


class ReplayAsked:
    """The part of a replay that answers people."""

    _request: ReplayRequest
    _rate: int
    _count: int
    _approved_by: str
    _paused: Said | None
    _cancelled: Said | None
    _asking: asyncio.Lock
    _repaced: bool
    """By a person, in this run."""
    _held: bool
    """Paused or resumed by a person, in this run."""
    _story: Story
    _seen: Seen
    _stage_now: Stage | None = None

    @workflow.update(
        description=f"Press when it hurts something, or you want to look first: nothing is taken any more. {_DATA}"
    )
    async def pause(self, said: Said) -> str:
        async with self._asking:
            self._paused, self._held = said, True
            await workflow.execute_activity_method(
                ReplayActivities.pause,
                self._request.plan_id,
                summary=f"paused by {said.by}: {said.reason}",
                **DATABASE,
            )
        return self._told(f"paused by {said.by}: {said.reason}")

    @workflow.update(description=f"Press when a paused replay may go on, at its pace. {_DATA}")
    async def resume(self, said: Said) -> str:
        async with self._asking:
            await workflow.execute_activity_method(
                ReplayActivities.resume,
                self._request.plan_id,
                summary=f"resumed by {said.by}: {said.reason}",
                **DATABASE,
            )
            self._paused, self._held = None, True
        return self._told(f"resumed by {said.by}: {said.reason}")

    @workflow.update(
        description="Press when it is too fast for what comes behind it, or needlessly slow: items a second. "
        'Data: {"by": "you", "reason": "why", "rate": 50}'
    )
    async def repace(self, said: Repace) -> str:
        async with self._asking:
            self._rate, self._repaced = said.rate, True
            await workflow.execute_activity_method(
                ReplayActivities.repace,
                Pace(plan_id=self._request.plan_id, rate=said.rate),
                summary=f"{said.rate:,}/s, asked by {said.by}: {said.reason}",
                **DATABASE,
            )
        return self._told(f"{said.rate:,}/s, asked by {said.by}: {said.reason}")

    @workflow.update(description=f"Press to end it: what is done stays done, the rest is untouched. {_DATA}")
    def cancel(self, said: Said) -> str:
        self._cancelled = self._cancelled or said
        return self._told(f"cancelled by {said.by}: {said.reason}")

    @workflow.update(
        description="Press when you have looked at a large plan and agree; who started it may not. " + _DATA
    )
    async def approve(self, said: Said) -> str:
        async with self._asking:
            if self._approved_by:
                return f"it was approved by {self._approved_by}"
            await workflow.execute_activity_method(
                ReplayActivities.approve,
                Approval(**said.model_dump(), plan_id=self._request.plan_id),
                summary=f"approved by {said.by}: {said.reason}",
                **DATABASE,
            )
            self._approved_by = said.by
        return self._told(f"approved by {said.by}: {said.reason}")

    @pause.validator
    def _check_pause(self, said: Said) -> None:
        _check(said)

    @resume.validator
    def _check_resume(self, said: Said) -> None:
        _check(said)

    @cancel.validator
    def _check_cancel(self, said: Said) -> None:
        _check(said)

    @repace.validator
    def _check_repace(self, said: Repace) -> None:
        _check(said)
        check_rate(said.rate)

    @approve.validator
    def _check_approve(self, said: Said) -> None:
        _check(said)
        if _same(said.by, self._request.by):
            raise WrongUsageError(
                f"{said.by} started it, and so may not approve it: somebody else looks at the plan and presses, with "
                "--by and their name"
            )

    def is_over(self) -> bool:
        """Somebody cancelled it."""
        return self._cancelled is not None

    def show(self, stage: Stage) -> None:
        """Where it is, and the command that unblocks or stops it."""
        self._stage_now = stage
        plan, paused = self._request.plan_id, self._paused
        seen = self._seen
        doing = f"paused by {paused.by}: {paused.reason}" if paused else f"at most {self._rate:,}/s"
        self._story.at(
            stage.name,
            doing=doing,
            facts=[
                ("outcomes", f"{seen.done:,} of {self._count:,}"),
                ("delivered", f"{seen.delivered:,}"),
                ("skipped", f"{seen.skipped:,}, delivered already or in the flow again"),
                ("dead again", f"{seen.dead:,}; {self._request.budget.of(stage):,} may fail again in this stage"),
            ],
            unblock=f"runbook replays {'resume' if paused else 'show'} {plan}",
            found_as="paused" if paused else "canary" if stage.canary else "replay",
        )

    def _told(self, text: str) -> str:
        self._story.note(text)
        if self._stage_now is not None and not self.is_over():
            self.show(self._stage_now)
        return text


def _check(said: Said) -> None:
    for name in ("by", "reason"):
        if not getattr(said, name).strip():
            raise ValueError(f"{name} is empty: say who asks, and why")


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()
