"""Webhooks: dispatchers that are always on, and a workflow for each delivery that is in trouble.

dispatcher:  drain ──five minutes, a new deal, a new worker──▶ drain ──▶ …     ends when there are to be fewer
delivery:    try ──again and again, by its policy──▶ delivered
              ├──sent again by its provider──▶ settled before: the flow has it
              └──attempts used up──▶ bury: dead, with its cause, until it is sent again or replayed
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.webhook import WebhookActivities
    from integrations.domain.ledger import may_end_the_process
    from integrations.domain.outbox import DispatchRequest
    from integrations.domain.webhook import Handled, HandleRequest, HandleStep
    from workflows.dispatching import Dispatching
    from workflows.options import DATABASE
    from workflows.retrying import given_up, until_settled
    from workflows.story import Story

_STATUS = "runbook webhooks status"


@workflow.defn(name="WebhookDispatchWorkflow")
class WebhookDispatchWorkflow:
    @workflow.init
    def __init__(self, request: DispatchRequest) -> None:
        self._dispatching = Dispatching(request, ledger="webhooks", items="deliveries", status=_STATUS)

    @workflow.run
    async def run(self, request: DispatchRequest) -> str:
        return await self._dispatching.run(WebhookActivities.drain) or workflow.continue_as_new(request)


@workflow.defn(name="WebhookDeliveryWorkflow")
class WebhookDeliveryWorkflow:
    """One delivery in trouble. No other waits for it, unless its handler is broken as a whole."""

    @workflow.init
    def __init__(self, request: HandleRequest) -> None:
        self._left = request.left
        self._story = Story(["try", "delivered or dead"], now="try")

    @workflow.run
    async def run(self, request: HandleRequest) -> Handled:
        left = self._left
        self._story.at(
            "try",
            doing=f"{left.event or 'a delivery'} for the handler {left.handler}, up to {request.retrying.attempts} "
            "attempts",
            facts=[
                ("cause", left.cause),
                ("came by", f"{left.provider_id}, channel {left.channel}"),
                ("about", left.tenant or "no connection, or several"),
                ("held back", "nothing, unless this handler is broken as a whole: then this one tries for all"),
            ],
            unblock=f"runbook webhooks show {left.id}",
        )
        step = HandleStep(id=left.id, tried=request.tried, woken=left.woken, alone=may_end_the_process(left.cause))
        summary = f"{left.event or 'a delivery'} of {left.provider_id} for {left.handler}"
        ended = await until_settled(
            WebhookActivities.deliver, step, summary=summary, retrying=request.retrying, tried=request.tried
        )
        if ended is None:
            ended = await workflow.execute_activity_method(
                WebhookActivities.bury,
                given_up(step, request),
                summary=f"give it up: {left.cause}",
                activity_id="bury",
                **DATABASE,
            )
        self._story.at("delivered or dead", doing=ended.status, found_as=ended.status)
        return ended
