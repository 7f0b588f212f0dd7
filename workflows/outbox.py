"""The outbox: dispatchers that are always on, and a workflow for each projection that is in trouble.

dispatcher:  drain ──five minutes, a new deal, a new worker──▶ drain ──▶ …     ends when there are to be fewer
delivery:    try ──again and again, by its policy──▶ delivered
              └──attempts used up──▶ bury: dead, with its cause, until somebody replays it
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.outbox import OutboxActivities
    from integrations.domain.ledger import may_end_the_process
    from integrations.domain.outbox import Delivered, DeliveryRequest, DeliveryStep, DispatchRequest
    from workflows.dispatching import Dispatching
    from workflows.options import DATABASE
    from workflows.retrying import given_up, until_settled
    from workflows.story import Story


@workflow.defn(name="OutboxDispatchWorkflow")
class OutboxDispatchWorkflow:
    @workflow.init
    def __init__(self, request: DispatchRequest) -> None:
        self._dispatching = Dispatching(request, ledger="the outbox", items="events", status="runbook outbox status")

    @workflow.run
    async def run(self, request: DispatchRequest) -> str:
        return await self._dispatching.run(OutboxActivities.drain) or workflow.continue_as_new(request)


@workflow.defn(name="OutboxDeliveryWorkflow")
class OutboxDeliveryWorkflow:
    """One projection in trouble. Later events of its connection wait for it."""

    @workflow.init
    def __init__(self, request: DeliveryRequest) -> None:
        self._pair = request.pair
        self._story = Story(["try", "delivered or dead"], now="try")

    @workflow.run
    async def run(self, request: DeliveryRequest) -> Delivered:
        pair = self._pair
        self._story.at(
            "try",
            doing=f"{pair.name} for the projector {pair.projector}, up to {request.retrying.attempts} attempts",
            facts=[
                ("cause", pair.cause),
                ("who", f"{pair.provider_id} of {pair.tenant}"),
                ("held back", "later events of its connection, at this projector only"),
            ],
            unblock="runbook outbox status",
        )
        step = DeliveryStep(
            event_id=pair.event_id, projector=pair.projector, tried=request.tried, alone=may_end_the_process(pair.cause)
        )
        ended = await until_settled(
            OutboxActivities.deliver,
            step,
            summary=f"{pair.name} for {pair.projector}",
            retrying=request.retrying,
            tried=request.tried,
        )
        if ended is None:
            ended = await workflow.execute_activity_method(
                OutboxActivities.bury,
                given_up(step, request),
                summary=f"give it up: {pair.cause}",
                activity_id="bury",
                **DATABASE,
            )
        self._story.at("delivered or dead", doing=ended.status, found_as=ended.status)
        return ended
