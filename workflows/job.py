"""One gated capability call for a host application. Its idempotency key names the workflow and travels along.

call ──done, blocked, refused──▶ the result
  └─the access token is not accepted──▶ the connection's refresh ──a newer token──▶ call once more ──▶ the result
                                              └─none──▶ the result, with what the refresh found
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.job import JobActivities
    from integrations.domain.job import (
        JobRequest,
        JobResult,
        called_again,
        has_newer_token,
        not_renewed,
        was_about_an_older,
    )
    from integrations.domain.refresh import Refreshed, RefreshRequest
    from workflows.options import DATABASE, PROVIDER_CALL, REFRESH_ENDS
    from workflows.patches import Patch
    from workflows.queues import First, priority, provider_queue
    from workflows.story import Story


@workflow.defn(name="ProviderJobWorkflow")
class ProviderJobWorkflow:
    def __init__(self) -> None:
        self._story = Story(["call", "refresh", "call again"], now="call")

    @workflow.run
    async def run(self, request: JobRequest) -> JobResult:
        self._story.at("call", doing=f"{request.capability} for {request.tenant}")
        result = await self._call(request, request.capability)
        if result.refused_version is None or not workflow.patched(Patch.REFUSED_TOKEN_IS_RENEWED):
            return result
        self._story.at("refresh", doing=result.because)
        refreshed = await self._refresh(request, result, "refresh")
        if was_about_an_older(result, refreshed):
            refreshed = await self._refresh(request, result, "refresh again")
        if not has_newer_token(result, refreshed):
            return not_renewed(result, refreshed)
        self._story.at("call again", doing=f"with version {refreshed.version}")
        # A 401 was not executed (RFC 9110 section 15.5.2), and if an attempt before it was, the key is still the same.
        return called_again(await self._call(request, f"{request.capability} again"), refreshed)

    async def _call(self, request: JobRequest, activity_id: str) -> JobResult:
        return await workflow.execute_activity_method(
            JobActivities.call,
            request,
            task_queue=provider_queue(request.provider_id),
            summary=f"{activity_id} for {request.tenant}",
            activity_id=activity_id,
            priority=priority(First.LIVE, request.tenant),
            **PROVIDER_CALL,
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
            activity_id=activity_id,
            **DATABASE,
        )
        return await workflow.execute_activity_method(
            JobActivities.refresh_ended,
            run,
            summary=f"wait for {run.workflow_id}",
            activity_id=f"{activity_id}: its end",
            **REFRESH_ENDS,
        )
