"""One gated capability call for a host application. Its idempotency key names the workflow and travels along."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.job import JobActivities
    from integrations.domain.job import JobRequest, JobResult
    from workflows.options import PROVIDER_CALL
    from workflows.queues import provider_queue


@workflow.defn(name="ProviderJobWorkflow")
class ProviderJobWorkflow:
    @workflow.run
    async def run(self, request: JobRequest) -> JobResult:
        return await workflow.execute_activity_method(
            JobActivities.call,
            request,
            task_queue=provider_queue(request.provider_id),
            summary=f"{request.capability} for {request.tenant}",
            activity_id=request.capability,
            **PROVIDER_CALL,
        )
