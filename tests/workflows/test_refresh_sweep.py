"""What a sweep decides: lanes of chunks until nothing is due, and one provider's trouble is its own."""

import asyncio
from uuid import uuid4

from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.refresh import Chunk, Refresh, RefreshRequest, SweepRequest, Swept
from tests.workflows.fakes import OUTAGE, FakeDetection, FakeRefresh, FakeSweep, refreshed, workers
from workflows.queues import WORKFLOWS
from workflows.refresh_sweep import RefreshSweepWorkflow


async def swept(env: WorkflowEnvironment, lanes: int = 1) -> Chunk:
    handle = await temporal.start_sweep(env.client, SweepRequest(provider_id="simulator", lanes=lanes))
    return await asyncio.wait_for(handle.result(), 30)


class TestASweepOfOneProvider:
    async def test_goes_on_until_nothing_is_due(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeSweep(Chunk(taken=50, refreshed=50), Chunk(taken=50), Chunk(taken=3, refreshed=2, left=1))

        async with workers(time_skipping.client, sweep=fake):
            done = await swept(time_skipping)

        assert done == Chunk(taken=103, refreshed=52, left=1)
        assert fake.asked == 4

    async def test_waits_for_an_outage_to_end(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeSweep(*[OUTAGE] * 8, Chunk(taken=1, refreshed=1), Chunk(taken=50, refreshed=50))

        async with workers(time_skipping.client, sweep=fake):
            done = await swept(time_skipping)

        assert done.refreshed == 51
        assert fake.asked == 11

    async def test_has_several_lanes(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeSweep(*[Chunk(taken=50, refreshed=50)] * 9)

        async with workers(time_skipping.client, sweep=fake, cached=0):
            done = await swept(time_skipping, lanes=4)

        assert done.refreshed == 450
        assert fake.asked == 9 + 4


class TestASweep:
    async def test_starts_the_providers_and_waits_for_none(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeSweep(*[OUTAGE] * 4, due={"simulator": 70})

        async with workers(time_skipping.client, sweep=fake):
            handle = await time_skipping.client.start_workflow(
                RefreshSweepWorkflow.run, id=f"refresh-sweep-{uuid4()}", task_queue=WORKFLOWS
            )
            assert await asyncio.wait_for(handle.result(), 30) == Swept(due={"simulator": 70})
            # Joined, not started twice.
            await swept(time_skipping)

        assert fake.asked == 5


class TestOneThatLeftItsChunk:
    async def test_is_only_confirmed_when_it_was_refused(self, time_skipping: WorkflowEnvironment) -> None:
        found = uuid4()
        fake = FakeRefresh(refreshed(Refresh.REFUSED, version=3, why="refused twice", detection_id=found))
        detection = FakeDetection()
        wanted = RefreshRequest(
            connection_id=uuid4(),
            provider_id="simulator",
            tenant="org:acme",
            by="refresh-sweep",
            reason="400 invalid_grant",
            known_version=3,
            refused=refreshed(Refresh.REFUSED, version=3, why="400 invalid_grant"),
        )

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            handle = await temporal.start_refresh(time_skipping.client, wanted)
            await asyncio.wait_for(handle.result(), 30)

        assert fake.steps == ["confirm newer than 3"]
        assert detection.announced == [found]
