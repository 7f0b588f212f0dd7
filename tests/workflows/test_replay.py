"""What a replay decides, with scripted rows; and its real watch on rows, told to stop in the middle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment
from temporalio.worker import Worker

from activities import replay as activities
from activities.replay import ReplayActivities
from integrations import temporal
from integrations.db.session import Sessions
from integrations.domain.errors import StopError
from integrations.domain.replay import Outcome, PlanStatus, Repace, ReplayRequest, Said, Watch
from integrations.domain.replay_pace import Budget
from tests.outbox.plans import add_dead, made, released
from tests.workflows.fake_replay import FakeReplay
from tests.workflows.fakes import workers
from workflows.queues import WORKFLOWS
from workflows.replay import ReplayWorkflow

ADA = Said(by="ada", reason="the receiver is slow")
GRACE = Said(by="grace", reason="looked at the plan")


def request(**changes: Any) -> ReplayRequest:
    given: dict[str, Any] = {"plan_id": uuid4(), "ledger": "outbox", "by": "ada", "reason": "fixed"}
    return ReplayRequest(**(given | changes))


async def outcome(env: WorkflowEnvironment, fake: FakeReplay, **changes: Any) -> Outcome:
    async with workers(env.client, replay=fake):
        handle = await temporal.start_replay(env.client, request(**changes))
        return await asyncio.wait_for(handle.result(), 30)


@asynccontextmanager
async def started(
    env: WorkflowEnvironment, fake: FakeReplay, **changes: Any
) -> AsyncIterator[WorkflowHandle[Any, Outcome]]:
    async with workers(env.client, replay=fake):
        yield await temporal.start_replay(env.client, request(**changes))


async def until_step(handle: WorkflowHandle[Any, Any], step: str) -> None:
    async with asyncio.timeout(20):
        while (await handle.describe()).typed_search_attributes.get(temporal.STEP) != step:
            await asyncio.sleep(0.02)


async def until_watched(fake: FakeReplay, times: int) -> None:
    async with asyncio.timeout(20):
        while fake.watches < times:
            await asyncio.sleep(0.02)


class TestAReplay:
    async def test_goes_in_stages_and_waits_for_the_outcomes_of_each(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReplay(20_000)

        result = await outcome(time_skipping, fake, approve_above=20_000, rate=700)

        assert [(wanted.upto, wanted.failures, wanted.rate) for wanted in fake.released] == [
            (1, 0, 700),
            (10, 0, 700),
            (200, 9, 700),
            (20_000, 990, 700),
        ]
        assert fake.watches == 4
        assert result == Outcome(status=PlanStatus.DONE, count=20_000, delivered=20_000)

    async def test_leaves_out_the_stages_that_are_no_smaller_than_the_plan(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        for count, ends in ((1, [1]), (7, [1, 7]), (10, [1, 10]), (500, [1, 10, 500])):
            fake = FakeReplay(count)

            await outcome(time_skipping, fake)

            assert [wanted.upto for wanted in fake.released] == ends

    @pytest.mark.parametrize(("dead", "released"), [([1], [1]), ([5], [1, 10])])
    async def test_stops_at_the_first_failure_of_a_canary(
        self, time_skipping: WorkflowEnvironment, dead: list[int], released: list[int]
    ) -> None:
        fake = FakeReplay(2000, dead=dead)

        result = await outcome(time_skipping, fake)

        assert [wanted.upto for wanted in fake.released] == released
        assert (result.status, result.dead, result.untouched) == (PlanStatus.STOPPED, 1, 2000 - released[-1])

    async def test_goes_on_within_the_budget_and_stops_beyond_it(self, time_skipping: WorkflowEnvironment) -> None:
        within, beyond = FakeReplay(100, dead=range(50, 54)), FakeReplay(100, dead=range(50, 55))
        ten, none = FakeReplay(100, dead=range(20, 30)), FakeReplay(100, dead=[20])

        assert (await outcome(time_skipping, within)).status is PlanStatus.DONE
        assert (await outcome(time_skipping, beyond)).status is PlanStatus.STOPPED
        assert (await outcome(time_skipping, ten, budget=Budget.read("10"))).status is PlanStatus.DONE
        assert (await outcome(time_skipping, none, budget=Budget.read("0%"))).status is PlanStatus.STOPPED

    async def test_of_a_plan_that_cannot_be_run_ends_with_the_reason(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReplay(refuses=StopError("plan … was edited: … with the hash aaa, and has … with bbb"))

        with pytest.raises(WorkflowFailureError) as caught:
            await outcome(time_skipping, fake)

        assert "with the hash aaa, and has … with bbb" in str(caught.value.cause.__cause__)
        assert fake.released == []

    async def test_run_twice_is_one_and_its_end_is_found_again(self, time_skipping: WorkflowEnvironment) -> None:
        fake, wanted = FakeReplay(5), request()
        async with workers(time_skipping.client, replay=fake):
            first = await temporal.start_replay(time_skipping.client, wanted)
            await first.result()

            again = await temporal.start_replay(time_skipping.client, wanted)

            assert (await again.result()).status is PlanStatus.DONE
        assert len(fake.released) == 2

    async def test_that_was_ended_by_hand_goes_on_where_it_was(self, time_skipping: WorkflowEnvironment) -> None:
        fake, wanted = FakeReplay(100, pauses_at=10), request()
        async with workers(time_skipping.client, replay=fake):
            handle = await temporal.start_replay(time_skipping.client, wanted)
            await until_watched(fake, 2)
            await handle.execute_update("pause", ADA)
            await handle.execute_update("repace", Repace(**ADA.model_dump(), rate=50))
            await handle.terminate()

            again = await temporal.start_replay(time_skipping.client, wanted)
            await until_step(again, "paused")
            await again.execute_update("resume", ADA)

            assert (await again.result()).delivered == 100
        assert {wanted.rate for wanted in fake.released[2:]} == {50}

    async def test_keeps_its_history_small_and_tells_its_story(self, time_skipping: WorkflowEnvironment) -> None:
        async with started(time_skipping, FakeReplay(1_000_000), approve_above=1_000_000) as handle:
            await handle.result()
            events = (await handle.fetch_history()).events

        assert len(events) < 120
        kind = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        said = [event.user_metadata.summary.data.decode() for event in events if event.event_type == kind]
        assert '"the first 10: up to 10 of 1,000,000, 0 may fail again"' in said
        assert '"the rest: 10,000 of 1,000,000 done, 0 dead again"' in said
        assert all(said)


@workflow.defn(name="ReplayWorkflow", sandboxed=False)
class Long(ReplayWorkflow):
    """As if its history were long, once."""

    @workflow.init
    def __init__(self, request: ReplayRequest) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: ReplayRequest) -> Outcome:
        return await super().run(request)

    def is_long(self) -> bool:
        return workflow.info().continued_run_id is None


class TestALongReplay:
    async def test_goes_on_in_a_run_of_its_own_with_its_pace_and_its_pause(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeReplay(100, pauses_at=10)
        steps = Worker(time_skipping.client, task_queue=WORKFLOWS, workflows=[Long], activities=fake.steps)
        async with steps:
            handle = await temporal.start_replay(time_skipping.client, request())
            await until_watched(fake, 2)
            await handle.execute_update("pause", ADA)
            again = time_skipping.client.get_workflow_handle(handle.id)
            async with asyncio.timeout(20):
                while (await again.describe()).run_id == handle.first_execution_run_id:
                    await asyncio.sleep(0.02)
            await until_step(again, "paused")
            await again.execute_update("repace", Repace(**ADA.model_dump(), rate=50))
            await again.execute_update("resume", ADA)
            result = await again.result()

        assert result["delivered"] == 100
        # The new run may have let the first stage go before it was asked for another pace, or after that.
        assert [wanted.upto for wanted in fake.released[2:]] == [1, 10, 100]
        assert [wanted.rate for wanted in fake.released[3:]] == [50, 50]
        assert fake.rate == 50

    async def test_is_the_same_when_no_worker_remembers_it(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReplay(2000, pauses_at=10)
        async with workers(time_skipping.client, replay=fake, cached=0):
            handle = await temporal.start_replay(time_skipping.client, request())
            await until_watched(fake, 2)
            await handle.execute_update("pause", ADA)
            await handle.execute_update("resume", ADA)
            result = await asyncio.wait_for(handle.result(), 30)

        assert result.delivered == 2000


class TestAPerson:
    async def test_pauses_it_and_lets_it_go_on_at_another_pace(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReplay(100, pauses_at=10)
        async with started(time_skipping, fake) as handle:
            await until_watched(fake, 2)
            await handle.execute_update("pause", ADA)
            await until_step(handle, "paused")
            assert fake.status is PlanStatus.PAUSED
            told = await handle.execute_update("repace", Repace(**ADA.model_dump(), rate=50))
            await handle.execute_update("resume", ADA)
            result = await handle.result()

        assert told == "50/s, asked by ada: the receiver is slow"
        assert fake.asked == ["pause", "repace 50", "resume"]
        assert [wanted.rate for wanted in fake.released] == [500, 500, 50]
        assert result.status is PlanStatus.DONE

    @pytest.mark.parametrize("paused", [False, True])
    async def test_cancels_it_also_while_it_is_paused(self, time_skipping: WorkflowEnvironment, paused: bool) -> None:
        fake = FakeReplay(100, pauses_at=10)
        async with started(time_skipping, fake) as handle:
            await until_watched(fake, 2)
            if paused:
                await handle.execute_update("pause", ADA)
                await until_step(handle, "paused")
            await handle.execute_update("cancel", ADA)
            result = await asyncio.wait_for(handle.result(), 20)

        assert (result.status, result.delivered, result.untouched) == (PlanStatus.CANCELLED, 1, 99)

    async def test_who_cancels_the_workflow_itself_gets_a_count_too(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReplay(100, pauses_at=10)
        async with started(time_skipping, fake) as handle:
            await until_watched(fake, 2)
            await handle.cancel()
            result = await asyncio.wait_for(handle.result(), 20)

        assert (result.status, result.untouched) == (PlanStatus.CANCELLED, 99)

    async def test_other_than_who_started_it_agrees_to_a_large_one(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReplay(100)
        async with started(time_skipping, fake, approve_above=99) as handle:
            await until_step(handle, "approve")
            with pytest.raises(WorkflowUpdateFailedError) as caught:
                await handle.execute_update("approve", Said(by=" Ada ", reason="it is fine"))
            assert fake.released == []
            await handle.execute_update("approve", GRACE)
            await handle.execute_update("approve", GRACE)
            result = await handle.result()

        assert "may not approve it" in str(caught.value.cause)
        assert fake.asked == ["approve grace"]
        assert result.status is PlanStatus.DONE

    async def test_cancels_one_that_waits_for_an_approval(self, time_skipping: WorkflowEnvironment) -> None:
        async with started(time_skipping, FakeReplay(100), approve_above=99) as handle:
            await until_step(handle, "approve")
            await handle.execute_update("cancel", ADA)
            result = await handle.result()

        assert (result.status, result.untouched) == (PlanStatus.CANCELLED, 100)

    async def test_has_to_say_who_and_why_and_a_pace_that_is_one(self, time_skipping: WorkflowEnvironment) -> None:
        refused = (
            ("pause", Said(by="", reason="x"), "by is empty"),
            ("resume", Said(by="ada", reason=" "), "reason is empty"),
            ("cancel", Said(by="ada", reason=""), "reason is empty"),
            ("approve", Said(by="grace", reason=""), "reason is empty"),
            ("repace", Repace(by="ada", reason="x", rate=0), "runbook replays pause"),
            ("repace", Repace(by="ada", reason="x", rate=1_000_000), "above the cap of 500,000/s"),
        )
        async with started(time_skipping, FakeReplay(100), approve_above=99) as handle:
            await until_step(handle, "approve")
            for name, said, words in refused:
                with pytest.raises(WorkflowUpdateFailedError) as caught:
                    await handle.execute_update(name, said)
                assert words in str(caught.value.cause)
            await handle.terminate()


class TestTheWatch:
    async def test_returns_when_there_is_something_to_show(
        self, engine: Any, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(activities, "_LOOK", 0.01)
        await add_dead(engine, 50)
        plan = await made(sessions)
        await released(sessions, plan)
        environment, beats = ActivityEnvironment(), list[str]()
        environment.on_heartbeat = beats.append
        watching = asyncio.create_task(
            environment.run(
                ReplayActivities(sessions).watch, Watch(plan_id=plan.plan_id, upto=plan.count, count=plan.count)
            )
        )
        await asyncio.sleep(0.1)
        assert not watching.done()

        async with sessions.begin() as session:
            await session.execute(text("UPDATE service_replay_progress SET delivered = 10"))

        assert (await asyncio.wait_for(watching, 5)).delivered == 10
        assert beats[0] == "0 of 100"

    @pytest.mark.parametrize("how", ["paused", "shutdown"])
    async def test_returns_when_it_is_paused_or_the_worker_is_stopped(
        self, engine: Any, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        monkeypatch.setattr(activities, "_LOOK", 0.01)
        await add_dead(engine, 5)
        plan = await made(sessions)
        await released(sessions, plan)
        steps, environment = ReplayActivities(sessions), ActivityEnvironment()
        wanted = Watch(plan_id=plan.plan_id, upto=plan.count, count=plan.count)
        watching = asyncio.create_task(environment.run(steps.watch, wanted))
        await asyncio.sleep(0.05)

        if how == "paused":
            await steps.pause(plan.plan_id)
        else:
            environment.worker_shutdown()

        seen = await asyncio.wait_for(watching, 5)
        assert (seen.status == "paused") is (how == "paused")
