import asyncio
from uuid import UUID, uuid4

from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.job import JobRequest, JobResult
from tests.workflows.fakes import OUTAGE, FakeJob, workers


def job(connection_id: UUID, key: str) -> JobRequest:
    return JobRequest(
        connection_id=connection_id,
        provider_id="simulator",
        tenant="org:acme",
        capability="notes.write",
        idempotency_key=key,
        by="ada",
        reason="test",
    )


class TestAJob:
    async def test_waits_for_the_provider_and_is_done_once(self, time_skipping: WorkflowEnvironment) -> None:
        fake, wanted = FakeJob(OUTAGE, OUTAGE), job(uuid4(), str(uuid4()))

        async with workers(time_skipping.client, job=fake):
            first = await temporal.start_job(time_skipping.client, wanted)
            second = await temporal.start_job(time_skipping.client, wanted)
            handle = time_skipping.client.get_workflow_handle(first.id, result_type=JobResult)
            result = await asyncio.wait_for(handle.result(), 30)

        assert result.done
        assert fake.calls == 3
        assert second.id == first.id

    async def test_is_not_done_again_by_the_same_key(self, time_skipping: WorkflowEnvironment) -> None:
        fake, wanted = FakeJob(), job(uuid4(), str(uuid4()))

        async with workers(time_skipping.client, job=fake):
            first = await temporal.start_job(time_skipping.client, wanted)
            await asyncio.wait_for(first.result(), 30)
            second = await temporal.start_job(time_skipping.client, wanted)
            typed = time_skipping.client.get_workflow_handle(second.id, result_type=JobResult)
            result = await asyncio.wait_for(typed.result(), 30)

        assert result.done
        assert fake.calls == 1

    async def test_is_another_connections_business_with_the_same_key(self, time_skipping: WorkflowEnvironment) -> None:
        fake, key = FakeJob(), str(uuid4())

        async with workers(time_skipping.client, job=fake):
            for connection_id in (uuid4(), uuid4()):
                started = await temporal.start_job(time_skipping.client, job(connection_id, key))
                await asyncio.wait_for(started.result(), 30)

        assert fake.calls == 2
