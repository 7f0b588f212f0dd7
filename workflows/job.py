"""One gated capability call for a host application. Its idempotency key names the workflow and travels along.

call ──done, blocked, refused──▶ the result
  └─the access token is not accepted──▶ the connection's refresh ──a newer token──▶ call once more ──▶ the result
                                              └─none──▶ the result, with what the refresh found

The patience ends while it waits for its provider: what is under way is heard out, and then the job is parked, not
failed. A row says so, and the signal `go_on` has it call again, with the same key and a new patience, of ten minutes
at least.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from shlex import quote
from typing import Final, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.job import JobActivities
    from activities.parked import ParkedActivities
    from integrations.domain.job import (
        PATIENCE_AGAIN,
        JobRequest,
        JobResult,
        called_again,
        has_newer_token,
        not_renewed,
        was_about_an_older,
    )
    from integrations.domain.parked import BY_HAND, FAILED, Parking
    from integrations.domain.refresh import Refresh, Refreshed, RefreshRequest
    from workflows.options import DATABASE, PROVIDER_CALL, REFRESH_ENDS
    from workflows.patches import Patch
    from workflows.queues import First, priority, provider_queue
    from workflows.story import Story

T = TypeVar("T")
_HEARD_OUT: Final = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED


class _OutOfPatienceError(Exception):
    """The provider neither did it nor refused it in time, or is not believed now. The text is what it said last."""


@workflow.defn(name="ProviderJobWorkflow")
class ProviderJobWorkflow:
    def __init__(self) -> None:
        self._story = Story(["call", "refresh", "call again"], now="call")
        self._patience: asyncio.Task[None] | None = None
        """Done when it is over. None: it has no end."""
        self._parkings = 0
        self._told = False

    @workflow.run
    async def run(self, request: JobRequest) -> JobResult:
        if request.patience is None:
            return await self._done(request)
        try:
            result = await self._patiently(request, request.patience)
        except (ActivityError, asyncio.CancelledError) as error:
            await self._settle(BY_HAND if is_cancelled_exception(error) else FAILED)
            raise
        await self._settle(result.outcome)
        return result

    @workflow.signal(
        description="Press when the provider works again and this parked job should not wait for its turn: it calls "
        "once more. No data. To have all of a provider's released in order, leave it to its outage."
    )
    def go_on(self) -> None:
        self._told = True

    async def _patiently(self, request: JobRequest, patience: timedelta) -> JobResult:
        while True:
            self._patience = asyncio.create_task(workflow.sleep(patience, summary="its patience; then it is parked"))
            # What goes on is behind whatever is live: to be parked for that would help nobody.
            patience = max(patience, PATIENCE_AGAIN)
            try:
                return await self._done(request)
            except _OutOfPatienceError as error:
                await self._park(request, str(error))
            finally:
                self._patience.cancel()

    async def _done(self, request: JobRequest) -> JobResult:
        self._story.at("call", doing=f"{request.capability} for {request.tenant}")
        result = await self._call(request, request.capability)
        if result.refused_version is None or not workflow.patched(Patch.REFUSED_TOKEN_IS_RENEWED):
            return result
        self._story.at("refresh", doing=result.because)
        refreshed = await self._refresh(request, result, "refresh")
        if was_about_an_older(result, refreshed):
            refreshed = await self._refresh(request, result, "refresh again")
        if refreshed.refresh is Refresh.SET_ASIDE and self._patience is not None:
            raise _OutOfPatienceError(refreshed.why)
        if not has_newer_token(result, refreshed):
            return not_renewed(result, refreshed)
        self._story.at("call again", doing=f"with version {refreshed.version}")
        # A 401 was not executed (RFC 9110 section 15.5.2), and if an attempt before it was, the key is still the same.
        return called_again(await self._call(request, f"{request.capability} again"), refreshed)

    async def _call(self, request: JobRequest, activity_id: str) -> JobResult:
        return await self._in_time(
            lambda: workflow.start_activity_method(
                JobActivities.call,
                request,
                task_queue=provider_queue(request.provider_id),
                summary=f"{activity_id} for {request.tenant}" + self._after_parking,
                activity_id=activity_id + self._after_parking,
                cancellation_type=_HEARD_OUT,
                priority=priority(First.REPLAY if self._parkings else First.LIVE, request.tenant),
                **PROVIDER_CALL,
            )
        )

    async def _refresh(self, request: JobRequest, refused: JobResult, activity_id: str) -> Refreshed:
        run = await workflow.execute_activity_method(
            JobActivities.start_refresh,
            RefreshRequest(
                connection_id=request.connection_id,
                provider_id=request.provider_id,
                tenant=request.tenant,
                by=request.by,
                reason=f"{request.capability} was answered {refused.because}",
                known_version=refused.refused_version,
            ),
            summary=f"{refused.because}: refresh the connection",
            activity_id=activity_id + self._after_parking,
            **DATABASE,
        )
        return await self._in_time(
            lambda: workflow.start_activity_method(
                JobActivities.refresh_ended,
                run,
                summary=f"wait for {run.workflow_id}",
                activity_id=f"{activity_id}: its end{self._after_parking}",
                cancellation_type=_HEARD_OUT,
                **REFRESH_ENDS,
            )
        )

    async def _in_time(self, start: Callable[[], workflow.ActivityHandle[T]]) -> T:
        """The end of a step that waits for the provider. Raises _OutOfPatienceError when that is too late.

        An attempt that is under way when the patience ends is heard out, and what it says counts: it may be done.
        """
        patience = self._patience
        if patience is None:
            return await start()
        if patience.done():
            raise _OutOfPatienceError
        step = start()
        await workflow.wait_condition(lambda: step.done() or patience.done())
        # Of no effect on what has ended.
        step.cancel()
        try:
            return await step
        except ActivityError as error:
            if _is_for_good(error):
                raise
            raise _OutOfPatienceError(_said(error)) from None

    async def _park(self, request: JobRequest, cause: str) -> None:
        self._parkings += 1
        self._told = False
        self._story = Story(["parked", "call", "refresh", "call again"], now=self._story.step)
        self._story.at(
            "parked",
            doing="it waits until its provider is back, and then for its turn",
            facts=[
                ("patience", f"{request.patience}"),
                *([("the last attempt", cause)] if cause else []),
                ("out of turn", f"`temporal workflow signal -w {quote(workflow.info().workflow_id)} --name go_on`"),
            ],
            unblock=f"runbook outage status {request.provider_id}",
        )
        await workflow.execute_activity_method(
            ParkedActivities.park,
            Parking(
                provider_id=request.provider_id,
                connection_id=request.connection_id,
                tenant=request.tenant,
                capability=request.capability,
                cause=cause,
                times=self._parkings,
            ),
            summary="its provider is not back in time: park it",
            activity_id=f"park {self._parkings}",
            **DATABASE,
        )
        await workflow.wait_condition(lambda: self._told)

    async def _settle(self, outcome: str) -> None:
        if self._parkings:
            await workflow.execute_activity_method(
                ParkedActivities.unparked,
                outcome,
                summary=f"{outcome}: it is parked no more",
                activity_id="unparked",
                **DATABASE,
            )

    @property
    def _after_parking(self) -> str:
        return f", after parking {self._parkings}" if self._parkings else ""


def _is_for_good(error: ActivityError) -> bool:
    """Did the attempt that was heard out end in what no other attempt would change?"""
    return isinstance(error.cause, ApplicationError) and error.cause.non_retryable


def _said(error: ActivityError) -> str:
    """The attempt's own words. Empty when none was under way, or its worker died of it."""
    return error.cause.message if isinstance(error.cause, ApplicationError) else ""
