"""Releasing parked jobs: real workflows without a worker, which keep the signals that they are sent."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.parked import look_after, release
from activities.reconcile import ReconcileActivities
from integrations import temporal
from integrations.db import parked
from integrations.db.outage_tables import ParkedJob
from integrations.db.session import Sessions
from integrations.domain.job import JobRequest
from integrations.domain.parked import BY_HAND, Parking
from integrations.domain.reauth import Terms
from integrations.domain.run import Run
from tests.db.test_parked import add_outage, age
from tests.factories import every, stored

Job = WorkflowHandle[Any, Any]


class Jobs:
    def __init__(self, env: WorkflowEnvironment, sessions: Sessions) -> None:
        self.client, self.sessions = env.client, sessions
        self.handles: list[Job] = []

    async def parked(self, count: int) -> list[Job]:
        return [await self.one() for _ in range(count)]

    async def one(self) -> Job:
        wanted = JobRequest(
            connection_id=uuid4(),
            provider_id="simulator",
            tenant="org:acme",
            capability="notes.write",
            idempotency_key="k",
            by="ada",
            reason="test",
        )
        handle = await temporal.start_job(self.client, wanted)
        self.handles.append(handle)
        parking = Parking(
            **wanted.model_dump(include={"provider_id", "connection_id", "tenant", "capability"}), cause="503", times=1
        )
        async with self.sessions.begin() as session:
            await parked.park(session, Run(workflow_id=handle.id, run_id=handle.result_run_id or ""), parking)
        return handle

    async def told(self, handle: Job) -> int:
        """Signals to go on."""
        wanted = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        return sum(event.event_type == wanted for event in (await handle.fetch_history()).events)

    async def row(self, handle: Job) -> ParkedJob:
        return await stored(self.sessions, ParkedJob, handle.id)

    async def look_after(self) -> int:
        return await look_after(self.client, self.sessions, lambda: None)


@pytest_asyncio.fixture
async def jobs(time_skipping: WorkflowEnvironment, sessions: Sessions) -> AsyncIterator[Jobs]:
    found = Jobs(time_skipping, sessions)
    yield found
    for handle in found.handles:
        if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            await handle.terminate()


class TestARelease:
    async def test_tells_so_many_and_those_first_that_wait_longest(self, jobs: Jobs) -> None:
        handles = await jobs.parked(3)

        assert await release(jobs.client, jobs.sessions, "simulator", 2, by="outage") == 2

        assert [await jobs.told(handle) for handle in handles] == [1, 1, 0]
        assert [(await jobs.row(handle)).released_by for handle in handles] == ["outage", "outage", None]
        assert await release(jobs.client, jobs.sessions, "simulator", 2, by="outage") == 1
        assert await release(jobs.client, jobs.sessions, "simulator", 2, by="outage") == 0

    async def test_settles_one_that_was_ended_by_hand(self, jobs: Jobs) -> None:
        ended, lives = await jobs.parked(2)
        await ended.terminate()

        assert await release(jobs.client, jobs.sessions, "simulator", 2, by="outage") == 1

        assert ((await jobs.row(ended)).outcome, (await jobs.row(lives)).outcome) == (BY_HAND, None)

    async def test_that_is_killed_behind_its_signals_is_made_again(
        self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [handle] = await jobs.parked(1)
        with monkeypatch.context() as killed:
            killed.setattr(parked, "released", None)
            with pytest.raises(TypeError):
                await release(jobs.client, jobs.sessions, "simulator", 1, by="outage")
        assert ((await jobs.row(handle)).released_at, await jobs.told(handle)) == (None, 1)

        assert await release(jobs.client, jobs.sessions, "simulator", 1, by="outage") == 1

        assert (await jobs.row(handle)).released_at is not None

    async def test_writes_down_whom_it_told_before_temporal_was_gone(
        self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handles = await jobs.parked(3)
        tell = temporal.signal_go_on

        async def signal(client: Any, run: Run) -> bool:
            if run.workflow_id == handles[1].id:
                raise RPCError("gone", RPCStatusCode.UNAVAILABLE, b"")
            return await tell(client, run)

        monkeypatch.setattr(temporal, "signal_go_on", signal)

        with pytest.raises(RPCError):
            await release(jobs.client, jobs.sessions, "simulator", 3, by="outage")

        assert [(await jobs.row(handle)).released_at is not None for handle in handles] == [True, False, True]


class TestReconcile:
    async def test_looks_after_them_each_minute(self, jobs: Jobs) -> None:
        [handle] = await jobs.parked(1)
        await age(jobs.sessions)

        steps = ReconcileActivities(jobs.sessions, Terms())
        found = await ActivityEnvironment(client=jobs.client).run(steps.reauth)

        assert (found.parked, await jobs.told(handle)) == (1, 1)

    async def test_goes_on_with_all_else_when_one_can_not_be_told(
        self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await jobs.parked(1)
        await age(jobs.sessions)

        async def signal(client: Any, run: Run) -> bool:
            raise RPCError(f"{client} does not take {run}", RPCStatusCode.UNAVAILABLE, b"")

        monkeypatch.setattr(temporal, "signal_go_on", signal)
        steps = ReconcileActivities(jobs.sessions, Terms())

        assert (await ActivityEnvironment(client=jobs.client).run(steps.reauth)).parked == 0

    async def test_tells_those_to_go_on_for_whom_no_outage_is_open(self, jobs: Jobs) -> None:
        [handle] = await jobs.parked(1)
        assert await jobs.look_after() == 0, "whoever parked it a moment ago may be told by its outage"
        await age(jobs.sessions)

        assert await jobs.look_after() == 1

        assert (await jobs.told(handle), (await jobs.row(handle)).released_by) == (1, "reconcile")

    async def test_leaves_them_to_an_outage_that_is_open(self, jobs: Jobs) -> None:
        await jobs.parked(1)
        await age(jobs.sessions)
        await add_outage(jobs.sessions, "simulator")

        assert await jobs.look_after() == 0

    async def test_settles_what_was_ended_by_hand_after_it_was_told(self, jobs: Jobs) -> None:
        ended, lives = await jobs.parked(2)
        await release(jobs.client, jobs.sessions, "simulator", 2, by="outage")
        await ended.terminate()
        await jobs.look_after()
        assert [row.outcome for row in await every(jobs.sessions, ParkedJob)] == [None, None]
        await age(jobs.sessions)

        await jobs.look_after()

        assert ((await jobs.row(ended)).outcome, (await jobs.row(lives)).outcome) == (BY_HAND, None)
