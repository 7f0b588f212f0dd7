"""Around every activity: log context, and errors that a person can read and that hold no secret."""

import random
from datetime import timedelta
from typing import Any, Final

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from integrations.domain.errors import StopError, TryAgainError
from integrations.observability import scrubbed

log = structlog.get_logger("worker")
_JITTER: Final = 0.25
"""Added share of a wait that a provider asked for: those it asked together must not come back together."""


class RunbookInterceptor(Interceptor):
    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Activity(super().intercept_activity(next))


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - the SDK's own name
        info = activity.info()
        context = {"workflow_id": info.workflow_id, "activity": info.activity_type, "attempt": info.attempt}
        with structlog.contextvars.bound_contextvars(**context):
            try:
                return await super().execute_activity(input)
            except Exception as error:  # noqa: BLE001 - whatever it is, a person will read it
                raise _readable(error) from None


def _readable(error: Exception) -> FailureError:
    """An error for the Web UI: bounded, scrubbed, with a type that a person understands."""
    if isinstance(error, FailureError):
        return error
    text = scrubbed(str(error) or type(error).__name__)
    kind = type(error).__name__.removesuffix("Error")
    if isinstance(error, TryAgainError):
        log.info("activity.postponed", why=text)
        delay = _jittered(error.after) if error.after else None
        # Expected: Temporal's policy waits and calls again, and nobody's alarm goes off for it.
        return ApplicationError(text, type=kind, next_retry_delay=delay, category=ApplicationErrorCategory.BENIGN)
    if isinstance(error, StopError):
        log.warning("activity.refused", why=text)
        return ApplicationError(text, type=kind, non_retryable=True)
    log.error("activity.failed", exc_info=error)
    return ApplicationError(text, type=kind)


def _jittered(after: timedelta) -> timedelta:
    return after * (1 + random.uniform(0, _JITTER))  # noqa: S311 - spreads calls, guards nothing
