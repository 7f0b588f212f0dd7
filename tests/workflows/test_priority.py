"""Who goes first in a provider's queue, as the server was told: read back from the histories."""

import asyncio
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.refresh import Chunk, Refresh, RefreshRequest, SweepRequest
from integrations.task_queues import fairness_key
from tests.workflows.fakes import (
    FakeJob,
    FakeReauth,
    FakeRefresh,
    FakeSweep,
    consent,
    detected,
    refreshed,
    request,
    workers,
)
from tests.workflows.test_job import job
from workflows.queues import provider_queue

QUEUE = provider_queue("simulator")


async def told(handle: WorkflowHandle[Any, Any]) -> dict[str, tuple[int, str]]:
    """Of each step in the provider's queue: its place, and whose turn it takes."""
    history = await handle.fetch_history()
    wanted = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    steps = [e.activity_task_scheduled_event_attributes for e in history.events if e.event_type == wanted]
    return {
        step.activity_type.name: (step.priority.priority_key, step.priority.fairness_key)
        for step in steps
        if step.task_queue.name == QUEUE
    }


class TestFirst:
    async def test_is_a_person_but_no_tenant_makes_a_code_wait(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(proves_apart=True)
        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            while fake.lifecycle_id is None:
                await asyncio.sleep(0.01)
            await handle.signal("consent_received", consent(fake))
            await asyncio.wait_for(handle.result(), 30)

        assert await told(handle) == {"reauth.exchange": (1, ""), "reauth.prove_and_activate": (1, "org:acme")}

    async def test_is_a_job_before_refreshes_and_these_before_sweeps(self, time_skipping: WorkflowEnvironment) -> None:
        refused = refreshed(Refresh.REFUSED, version=1, why="400 invalid_grant")
        refresh = FakeRefresh(refused, refreshed(Refresh.ROTATED_MEANWHILE, version=2))
        async with workers(time_skipping.client, job=FakeJob(), refresh=refresh, sweep=FakeSweep(Chunk(taken=1))):
            called = await temporal.start_job(time_skipping.client, job(uuid4(), str(uuid4())))
            wanted = RefreshRequest(
                connection_id=uuid4(), provider_id="simulator", tenant="org:acme", by="ada", reason="the token is due"
            )
            renewed = await temporal.start_refresh(time_skipping.client, wanted)
            swept = await temporal.start_sweep(time_skipping.client, SweepRequest(provider_id="simulator", lanes=1))
            await asyncio.wait_for(asyncio.gather(called.result(), renewed.result(), swept.result()), 30)

        assert await told(called) == {"job.call": (2, "org:acme")}
        assert await told(renewed) == {"refresh.refresh": (3, "org:acme"), "refresh.confirm": (3, "org:acme")}
        assert await told(swept) == {"refresh_sweep.chunk": (4, "")}

    async def test_is_nobody_whose_tenant_is_too_long_for_the_server(self, time_skipping: WorkflowEnvironment) -> None:
        tenant = f"org:{'ü' * 100}"
        async with workers(time_skipping.client, job=FakeJob()):
            called = await temporal.start_job(time_skipping.client, job(uuid4(), str(uuid4()), tenant=tenant))
            await asyncio.wait_for(called.result(), 30)

        assert await told(called) == {"job.call": (2, fairness_key(tenant))}
