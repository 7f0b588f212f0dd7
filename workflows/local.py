"""A step in the workflow's own task: for the server a third of what an activity costs.

It is repeated when the task is, without a limit, and nobody sees it while it runs. So it is for steps that are short
and have not ended a process. What does not succeed here goes on as an activity, which the server counts and shows.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from workflows.options import LocalTiming

P = TypeVar("P")
R = TypeVar("R")


async def locally(
    step: Callable[[Any, P], Awaitable[R]], wanted: P, timing: LocalTiming, *, summary: str, activity_id: str
) -> R | FailureError:
    """What the step brings, or why it brought nothing, if it may be tried again.

    Raises ApplicationError when it may not, and CancelledError.
    """
    try:
        return await workflow.execute_local_activity_method(
            step, wanted, summary=summary, activity_id=activity_id, **timing
        )
    except FailureError as error:
        # Of a local activity its own error, without an ActivityError around it.
        if is_cancelled_exception(error) or (isinstance(error, ApplicationError) and error.non_retryable):
            raise
        return error
