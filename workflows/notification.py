"""Notifications: a dispatcher for each channel, always on, and a workflow for each message that is in trouble.

dispatcher:  drain ──five minutes, a new worker──▶ drain ──▶ …
delivery:    send ──again and again, by its policy──▶ delivered | dropped: it is no news any more
              └──attempts or relevance used up──▶ give up: the recipient's next channel, or dead until it is replayed
"""

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, RetryState, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.notification import NotificationActivities
    from integrations.domain.notification_delivery import (
        ChannelRequest,
        Left,
        Sending,
        SendRequest,
        SendStep,
        Sent,
        Unsent,
    )
    from workflows.local import locally
    from workflows.options import DATABASE, DATABASE_LOCALLY, DRAIN, local_attempts, sending, sending_locally
    from workflows.queues import DRAIN as DRAIN_QUEUE
    from workflows.story import Story

_DRAINS: Final = 50
"""Activities of one run: some four hours, after which its history starts anew."""
_AT_LEAST: Final = timedelta(seconds=1)


@workflow.defn(name="NotificationDispatchWorkflow")
class NotificationDispatchWorkflow:
    @workflow.init
    def __init__(self, request: ChannelRequest) -> None:
        self._request = request
        self._last: Sending | None = None

    @workflow.run
    async def run(self, request: ChannelRequest) -> None:
        for _ in range(_DRAINS):
            self._show()
            self._last = await workflow.execute_activity_method(
                NotificationActivities.drain,
                request,
                task_queue=DRAIN_QUEUE,
                summary=self._summary(),
                activity_id="drain",
                **DRAIN,
            )
        workflow.continue_as_new(request)

    def _summary(self) -> str:
        if self._last is None:
            return f"{self._request.channel}: the dispatcher begins"
        return f"{self._request.channel}: after {self._last.items:,} messages: {self._last.why}"

    def _show(self) -> None:
        lines = [f"- ▶ what goes out by {self._request.channel}, always on"]
        if self._last is not None:
            lines.append(
                f"- **before**: {self._last.items:,} messages; {self._last.why}, {workflow.now():%Y-%m-%d %H:%M} UTC"
            )
        workflow.set_current_details("\n".join([*lines, "", "How it stands: `runbook notifications status`"]))


@workflow.defn(name="NotificationDeliveryWorkflow")
class NotificationDeliveryWorkflow:
    """One message in trouble. Nobody else's waits for it, unless where it goes to is out as a whole."""

    @workflow.init
    def __init__(self, request: SendRequest) -> None:
        self._left = request.left
        self._story = Story(["send", "sent or given up"], now="send")

    @workflow.run
    async def run(self, request: SendRequest) -> Sent:
        left = request.left
        held = "what goes to the same place: this one tries for all" if left.whole else "nothing"
        limit = "as long as it is news" if left.whole else f"{request.retrying.attempts} attempts at most"
        self._story.at(
            "send",
            doing=f"{left.definition} to {left.recipient} by {left.channel}, {limit}",
            facts=[
                ("cause", left.cause),
                ("about", f"{left.event}: {left.provider_id} of {left.tenant}"),
                ("news until", f"{left.expires_at:%Y-%m-%d %H:%M} UTC"),
                ("held back", held),
            ],
            unblock=f"runbook notifications explain {left.event_id}",
        )
        step = SendStep(dispatch_id=left.dispatch_id, tried=request.tried)
        ended = await self._sent(request, step)
        if ended is None:
            ended = await self._given_up(left, step)
        # People look for what did not arrive. Of what did, another step in the list would cost more than it tells.
        found_as = "send" if ended.status == "delivered" else ended.status
        self._story.at("sent or given up", doing=ended.status, found_as=found_as)
        return ended

    async def _given_up(self, left: Left, step: SendStep) -> Sent:
        summary = f"give it up: {left.cause}"
        if left.tried_locally:
            ended = await locally(
                NotificationActivities.give_up, step, DATABASE_LOCALLY, summary=summary, activity_id="give up locally"
            )
            if isinstance(ended, Sent):
                return ended
        return await workflow.execute_activity_method(
            NotificationActivities.give_up, step, summary=summary, activity_id="give up", **DATABASE
        )

    async def _sent(self, request: SendRequest, step: SendStep) -> Sent | None:
        """None when its attempts are used up, or it is no news any more before it arrived.

        A database in trouble, or a key that is missing, says nothing of the message, and uses none up.
        """
        left, tried = request.left, request.tried
        summary = f"{left.channel} {left.recipient}: {left.definition}"
        if left.tried_locally:
            # Most arrive now.
            before = Unsent(kind="Flow", why=left.cause, after=left.wait) if left.waits_locally else None
            try:
                sent = await locally(
                    NotificationActivities.send,
                    step.model_copy(update={"first": before}),
                    sending_locally(request.retrying, tried, waited=before is None),
                    summary=summary,
                    activity_id="send locally",
                )
            except ApplicationError:
                return None
            if isinstance(sent, Sent):
                return sent
            tried += local_attempts(request.retrying, tried)
            if tried >= request.retrying.attempts and not _is_ours(sent):
                return None
            # The last of them is the first of the activity's: its policy goes on from there.
            tried, step = tried - 1, step.model_copy(update={"first": _unsent(sent)})
        while True:
            try:
                return await workflow.execute_activity_method(
                    NotificationActivities.send,
                    step,
                    summary=summary,
                    activity_id="send",
                    schedule_to_close_timeout=max(left.expires_at - workflow.now(), _AT_LEAST),
                    **sending(request.retrying, tried, whole=left.whole),
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                # When the news ended meanwhile, they were not used up.
                if error.retry_state is not RetryState.MAXIMUM_ATTEMPTS_REACHED or not _is_ours(error.cause):
                    return None
                tried, step = request.tried, step.model_copy(update={"first": None})


def _unsent(error: FailureError) -> Unsent:
    if isinstance(error, ApplicationError):
        return Unsent(kind=error.type or "", why=error.message, after=error.next_retry_delay)
    return Unsent(kind=type(error).__name__, why=str(error))


def _is_ours(error: BaseException | None) -> bool:
    """Whether an attempt was used up by what is ours, and says nothing of the message."""
    return isinstance(error, ApplicationError) and error.type in {"TryAgain", "NotReady"}
