"""What reconciling steps share: one after the other, and none of them stops the others."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from integrations.domain.errors import RunbookError
from integrations.observability import scrubbed

T = TypeVar("T")


async def each(found: Sequence[T], step: Callable[[T], Awaitable[object]]) -> int:
    """One that fails does not stop the others; it is met again in the next sweep.

    How many went well: those of which a step says False had nothing to be done.
    """
    done = 0
    for one in found:
        try:
            done += await step(one) is not False
        except (RPCError, RunbookError) as error:
            activity.logger.error("reconcile.failed", extra={"why": scrubbed(str(error))})
        activity.heartbeat()
    return done


async def is_running(client: Client, workflow_id: str, run_id: str | None = None) -> bool:
    """Asked of the workflow itself: lists lag behind. Raises RPCError when Temporal does not answer.

    `run_id`: of this very run. Otherwise of the last one.
    """
    try:
        found = await client.get_workflow_handle(workflow_id, run_id=run_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return found.status is WorkflowExecutionStatus.RUNNING
