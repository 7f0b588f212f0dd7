"""The outbox: dispatchers that are always on, and a workflow for each projection that is in trouble.

dispatcher:  drain ──five minutes, a new deal, a new worker──▶ drain ──▶ …     ends when there are to be fewer
delivery:    try ──again and again, by its policy──▶ delivered
              └──attempts used up──▶ bury: dead, with its cause, until somebody replays it
"""

from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.outbox import OutboxActivities
    from integrations.domain.ledger import PARTITIONS, partitions_of
    from integrations.domain.outbox import Delivered, DeliveryRequest, DeliveryStep, DispatchRequest, Drained
    from workflows.options import DATABASE, DRAIN, delivery
    from workflows.queues import DRAIN as DRAIN_QUEUE
    from workflows.story import Story

_DRAINS: Final = 50
"""Activities of one run: some four hours, after which its history starts anew."""


@workflow.defn(name="OutboxDispatchWorkflow")
class OutboxDispatchWorkflow:
    @workflow.init
    def __init__(self, request: DispatchRequest) -> None:
        self._request = request
        self._last: Drained | None = None

    @workflow.run
    async def run(self, request: DispatchRequest) -> str:
        for _ in range(_DRAINS):
            self._show()
            self._last = await workflow.execute_activity_method(
                OutboxActivities.drain,
                request,
                task_queue=DRAIN_QUEUE,
                summary=self._summary(),
                activity_id="drain",
                **DRAIN,
            )
            if request.number >= self._last.dispatchers:
                return f"there are to be {self._last.dispatchers} dispatchers by now"
        return workflow.continue_as_new(request)

    def _summary(self) -> str:
        if self._last is None:
            return f"dispatcher {self._request.number} takes its partitions"
        return f"after {self._last.items:,} events: {self._last.why}"

    def _show(self) -> None:
        lines = [f"- ▶ dispatcher {self._request.number} of the outbox, always on"]
        if self._last is not None:
            deal = ", ".join(map(str, partitions_of(self._request.number, self._last.dispatchers)))
            lines += [
                f"- **partitions**: {deal} of {PARTITIONS}, {self._last.dispatchers} dispatchers",
                f"- **before**: {self._last.items:,} events; {self._last.why}, {workflow.now():%Y-%m-%d %H:%M} UTC",
            ]
        workflow.set_current_details("\n".join([*lines, "", "How it stands: `runbook outbox status`"]))


@workflow.defn(name="OutboxDeliveryWorkflow")
class OutboxDeliveryWorkflow:
    """One projection in trouble. Later events of its connection wait for it."""

    @workflow.init
    def __init__(self, request: DeliveryRequest) -> None:
        self._pair = request.pair
        self._story = Story(["try", "delivered or dead"], now="try")

    @workflow.run
    async def run(self, request: DeliveryRequest) -> Delivered:
        pair = request.pair
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
        step = DeliveryStep(event_id=pair.event_id, projector=pair.projector, tried=request.tried)
        ended = await self._tried(request, step)
        if ended is None:
            ended = await workflow.execute_activity_method(
                OutboxActivities.bury,
                step,
                summary=f"give it up: {pair.cause}",
                activity_id="bury",
                **DATABASE,
            )
        self._story.at("delivered or dead", doing=ended.status, found_as=ended.status)
        return ended

    async def _tried(self, request: DeliveryRequest, step: DeliveryStep) -> Delivered | None:
        """None when its attempts are used up. A database in trouble says nothing of the event, and uses none up."""
        while True:
            try:
                return await workflow.execute_activity_method(
                    OutboxActivities.deliver,
                    step,
                    summary=f"{self._pair.name} for {self._pair.projector}",
                    activity_id="deliver",
                    **delivery(request.retrying, request.tried),
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                if not _of_the_database(error):
                    return None


def _of_the_database(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == "TryAgain"
