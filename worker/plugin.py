"""One plugin for client, worker and replayer, so that a replay in CI runs what production runs.

But for the sandbox: tests and replays run workflows inside it, and so find what is not deterministic. A worker does
not, which spares a third of the processor time of each start (docs/decisions/0005).
"""

from typing import Final

from pydantic import ValidationError
from temporalio.plugin import SimplePlugin
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from integrations.domain.errors import RunbookError
from integrations.temporal import DATA_CONVERTER
from worker.interceptors import RunbookInterceptor

# Deterministic by their own rules, and costly to import anew for every run of a workflow.
_PASSED_THROUGH: Final = ("activities", "integrations", "structlog", "sqlalchemy", "httpx", "authlib", "cryptography")


def _sandboxed(_existing: WorkflowRunner | None) -> WorkflowRunner:
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*_PASSED_THROUGH)
    return SandboxedWorkflowRunner(restrictions=restrictions)


def _plain(_existing: WorkflowRunner | None) -> WorkflowRunner:
    return UnsandboxedWorkflowRunner()


def runbook_plugin(*, sandboxed: bool = True) -> SimplePlugin:
    """The plugin. Give it to the client that a worker is made from, or to a Replayer; not to both client and worker."""
    return SimplePlugin(
        "runbook",
        data_converter=DATA_CONVERTER,
        interceptors=[RunbookInterceptor()],
        workflow_runner=_sandboxed if sandboxed else _plain,
        # Errors that are the same on every replay: they fail the workflow instead of its task again and again.
        workflow_failure_exception_types=[ValidationError, RunbookError],
    )
