"""In what order reconcile looks, and that one step that fails costs no other."""

import asyncio
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError
from temporalio.testing import WorkflowEnvironment

from activities.reconcile import Reconciled
from integrations.domain.errors import StopError
from tests.workflows.fakes import FakeReconcile, workers
from workflows.queues import WORKFLOWS
from workflows.reconcile import ReconcileWorkflow

STEPS = ["mitigations", "reauth", "outbox", "notifications", "webhooks", "old", "webhook-self-tests"]


class InTrouble(FakeReconcile):
    """Two of its steps fail."""

    @activity.defn(name="reconcile.reauth")
    async def reauth(self) -> Reconciled:
        raise StopError("no such column: lifecycle_id")

    @activity.defn(name="reconcile.notifications")
    async def notifications(self) -> Reconciled:
        raise StopError("no such column: dispatch_id")


class Slow(FakeReconcile):
    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()

    @activity.defn(name="reconcile.reauth")
    async def reauth(self) -> Reconciled:
        self.began.set()
        while True:
            await asyncio.sleep(0.1)
            activity.heartbeat()


async def steps(client: Client, workflow_id: str) -> list[str]:
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    scheduled = [event.activity_task_scheduled_event_attributes for event in history.events]
    return [each.activity_id for each in scheduled if each.activity_id]


async def test_brakes_are_looked_at_first_and_all_is_counted(time_skipping: WorkflowEnvironment) -> None:
    client, name = time_skipping.client, f"reconcile-{uuid4()}"

    async with workers(client):
        found = await client.execute_workflow(ReconcileWorkflow.run, id=name, task_queue=WORKFLOWS)

    assert await steps(client, name) == STEPS
    assert found == Reconciled(
        lifecycles=1,
        deliveries=2,
        holds=3,
        messages=3,
        alerts=1,
        webhook_deliveries=5,
        self_tests=6,
        calls=4,
        outages=1,
        queues=2,
    )


async def test_one_that_fails_keeps_no_later_one_from_being_done_and_is_the_runs_failure(
    time_skipping: WorkflowEnvironment,
) -> None:
    client, name = time_skipping.client, f"reconcile-{uuid4()}"

    async with workers(client, reconcile=InTrouble()):
        with pytest.raises(WorkflowFailureError) as failure:
            await client.execute_workflow(ReconcileWorkflow.run, id=name, task_queue=WORKFLOWS)

    assert await steps(client, name) == STEPS
    assert isinstance(failure.value.cause, ActivityError)
    assert failure.value.cause.activity_id == "reauth"


async def test_one_that_is_cancelled_is_the_end(time_skipping: WorkflowEnvironment) -> None:
    client, name, slow = time_skipping.client, f"reconcile-{uuid4()}", Slow()

    async with workers(client, reconcile=slow):
        handle = await client.start_workflow(ReconcileWorkflow.run, id=name, task_queue=WORKFLOWS)
        await asyncio.wait_for(slow.began.wait(), 20)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()

    assert await steps(client, name) == STEPS[:2]
