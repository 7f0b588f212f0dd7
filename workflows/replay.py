"""A replay: what is dead is shown to the drain once more, a little at first, and stopped when it fails again.

begin ──▶ (approve) ──▶ the first item ──▶ ten ──▶ one percent ──▶ the rest ──▶ outcome
                           │ each: release, and watch until all of its items have an outcome
                           ├── more failed again than the budget allows: STOPPED, the rest is untouched
                           ├── paused: nothing is taken until it is resumed
                           └── cancelled by a person: CANCELLED, the rest is untouched

The drain does it, and rows tell it how far it may go: this decides, and its history is the same for ten items and ten
million. A run that lasts long goes on as a new one, which finds in the rows where it is.
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.replay import ReplayActivities
    from integrations.domain.replay import Begun, End, Outcome, PlanStatus, Release, ReplayRequest, Said, Seen, Watch
    from integrations.domain.replay_pace import Stage, stages
    from workflows.options import DATABASE, REPLAY_CHECK, REPLAY_WATCH
    from workflows.replay_asked import ReplayAsked
    from workflows.story import Story


@workflow.defn(name="ReplayWorkflow")
class ReplayWorkflow(ReplayAsked):
    """One per plan: the workflow's id is the lock."""

    @workflow.init
    def __init__(self, request: ReplayRequest) -> None:
        self._request = request
        self._rate = request.rate
        self._approved_by = ""
        self._paused: Said | None = None
        self._cancelled: Said | None = None
        self._asking = asyncio.Lock()
        self._repaced = self._held = False
        self._story = Story(["begin", "replay", "outcome"], "begin")
        self._count = 0
        self._seen = Seen(status=PlanStatus.RUNNING)
        self._watching: workflow.ActivityHandle[Seen] | None = None
        self._watched = 0

    @workflow.run
    async def run(self, request: ReplayRequest) -> Outcome:
        self._story.at("begin", doing=f"plan of the {request.ledger}, asked by {request.by}: {request.reason}")
        begun = await workflow.execute_activity_method(
            ReplayActivities.begin,
            request,
            summary=f"plan {request.plan_id}: unchanged, in time, not run before?",
            activity_id="begin",
            **REPLAY_CHECK,
        )
        self._take_up(begun)
        try:
            status = await self._replay(begun)
        except (asyncio.CancelledError, ActivityError) as error:
            if not is_cancelled_exception(error):
                raise
            # As `temporal workflow cancel` does: what is done is counted all the same.
            self._cancelled = Said(by="Temporal", reason="the workflow was cancelled")
            status = PlanStatus.CANCELLED
        return await self._end(status)

    def _take_up(self, begun: Begun) -> None:
        """Where it is, also when it was begun before."""
        self._count, self._approved_by = begun.count, begun.approved_by
        # What was asked while the row was read is newer than the row was.
        if not self._repaced:
            self._rate = begun.rate or self._rate
        if begun.paused and not self._held:
            self._paused = Said(by="its row", reason="it was paused before this run began")
        names = [stage.name for stage in stages(begun.count)]
        approval = ["approve"] if begun.count > self._request.approve_above else []
        self._story = Story(["begin", *approval, *names, "outcome"], "begin")

    async def _replay(self, begun: Begun) -> PlanStatus:
        if begun.count > self._request.approve_above and not self._approved_by:
            self._story.at(
                "approve",
                doing=f"{begun.count:,} items are more than {self._request.approve_above:,}: somebody other than "
                f"{self._request.by} has to agree",
                facts=[("plan", begun.filters), ("why", self._request.reason)],
                unblock=f"runbook replays approve {self._request.plan_id}",
            )
            await workflow.wait_condition(lambda: bool(self._approved_by) or self.is_over())
        for stage in stages(begun.count):
            if not self.is_over():
                await self._stage(stage)
            if self.is_over():
                return PlanStatus.CANCELLED
            if self._seen.exceeded:
                return PlanStatus.STOPPED
        return PlanStatus.DONE

    async def _stage(self, stage: Stage) -> None:
        """Let its items go, and wait for their outcomes. Ends early when it is cancelled, or too many fail."""
        failures = self._request.budget.of(stage)
        await workflow.execute_activity_method(
            ReplayActivities.release,
            Release(plan_id=self._request.plan_id, upto=stage.upto, rate=self._rate, failures=failures),
            summary=f"{stage.name}: up to {stage.upto:,} of {self._count:,}, {failures:,} may fail again",
            activity_id=f"release {stage.upto}",
            **DATABASE,
        )
        while True:
            self.show(stage)
            await workflow.wait_condition(lambda: self._paused is None or self.is_over())
            if self.is_over():
                return
            self.show(stage)
            await self._watch(stage)
            if self.is_over() or self._seen.exceeded or self._seen.done >= stage.upto:
                return
            if self.is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._request.model_copy(update={"rate": self._rate}))

    def is_long(self) -> bool:
        """Time for a new run: what a slow one needs is in the rows."""
        return workflow.info().is_continue_as_new_suggested()

    async def _watch(self, stage: Stage) -> None:
        self._watched += 1
        watching = workflow.start_activity_method(
            ReplayActivities.watch,
            Watch(plan_id=self._request.plan_id, upto=stage.upto, count=self._count),
            summary=f"{stage.name}: {self._seen.done:,} of {self._count:,} done, {self._seen.dead:,} dead again",
            activity_id=f"watch {self._watched}",
            **REPLAY_WATCH,
        )
        self._watching = watching
        await workflow.wait_condition(lambda: watching.done() or self.is_over())
        if watching.done():
            self._seen = await watching

    async def _end(self, status: PlanStatus) -> Outcome:
        why = f" by {self._cancelled.by}: {self._cancelled.reason}" if self._cancelled else ""
        self._story.at("outcome", doing=f"{status.value}{why}; counting")
        outcome = await workflow.execute_activity_method(
            ReplayActivities.end,
            End(plan_id=self._request.plan_id, ledger=self._request.ledger, status=status),
            summary=f"{status.value}{why}: close the plan and count",
            activity_id="end",
            **REPLAY_CHECK,
        )
        self._story.at("outcome", doing=str(outcome), found_as=outcome.status.value)
        # A watch that was left alone finds the row closed, and ends by itself.
        await workflow.wait_condition(lambda: self._watching is None or self._watching.done())
        # A person whose wish is being carried out gets an answer before this run ends.
        await workflow.wait_condition(workflow.all_handlers_finished)
        return outcome
