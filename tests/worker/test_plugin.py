"""CI looks for what is not deterministic; a worker trusts what CI has seen."""

from datetime import datetime
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from worker.plugin import runbook_plugin


@workflow.defn
class ReadsTheClock:
    @workflow.run
    async def run(self) -> str:
        return datetime.now().isoformat()  # noqa: DTZ005 - what the sandbox is there to find


class TestThePlugin:
    async def test_finds_a_clock_that_is_read_where_tests_run(self, time_skipping: WorkflowEnvironment) -> None:
        async with Worker(
            time_skipping.client,
            task_queue=f"sandbox-{uuid4()}",
            workflows=[ReadsTheClock],
            workflow_failure_exception_types=[Exception],
        ) as worker:
            with pytest.raises(WorkflowFailureError) as failed:
                await time_skipping.client.execute_workflow(
                    ReadsTheClock.run, id=f"clock-{uuid4()}", task_queue=worker.task_queue
                )

        assert isinstance(failed.value.cause, ApplicationError)
        assert "datetime.datetime.now" in str(failed.value.cause)

    @pytest.mark.parametrize(
        ("sandboxed", "kind"), [(True, SandboxedWorkflowRunner), (False, UnsandboxedWorkflowRunner)]
    )
    def test_leaves_the_sandbox_out_only_when_it_is_asked_to(self, sandboxed: bool, kind: type) -> None:
        given = runbook_plugin(sandboxed=sandboxed).workflow_runner

        assert callable(given)
        assert isinstance(given(None), kind)
