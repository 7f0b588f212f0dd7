"""Webhook deliveries' steps: the drain, and what becomes of a delivery that left it."""

from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.service import RPCError

from activities.alone import turn
from activities.detection import announce
from activities.draining import drain
from activities.trouble import said
from integrations import temporal
from integrations.db import webhook_trouble
from integrations.db.session import Sessions
from integrations.db.webhook_flow import Flow, FollowUp
from integrations.db.webhook_handlers import Handling
from integrations.domain.errors import TryAgainError
from integrations.domain.ledger import Failure
from integrations.domain.outbox import DispatchRequest, Drained, Retrying
from integrations.domain.reauth import Detection, Terms
from integrations.domain.webhook import BATCH, LEDGER, RETRYING, Handled, HandleRequest, HandleStep
from integrations.observability import scrubbed

log = structlog.get_logger("webhook")
_EACH_BY_ITS_KEY: Final = {"enable_hashjoin": "off", "enable_mergejoin": "off"}
"""Whatever a batch looks up is found one by one: plans are made while next to nothing waits, and kept in a backlog."""


class HandlingFailedError(TryAgainError):
    """The handler refuses this delivery. Its retry policy decides how often it is shown it again."""


class WebhookActivities:
    def __init__(
        self,
        sessions: Sessions,
        url: str,
        terms: Terms,
        handling: Handling,
        retrying: Retrying = RETRYING,
        *,
        batch: int = BATCH,
    ) -> None:
        """`url`: for the connections of dispatchers, which no pool may share. `terms`: of lifecycles that begin."""
        self._sessions = sessions
        self._url = url
        self._terms = terms
        self._handling = handling
        self._retrying = retrying
        self._batch = batch

    @activity.defn(name="webhook.drain")
    async def drain(self, request: DispatchRequest) -> Drained:
        """Own partitions and handle their deliveries until there is a reason to stop.

        Raises TryAgainError when the database has trouble. The next attempt begins with smaller batches when this one
        ends without a word.
        """
        return await drain(
            self._sessions,
            self._url,
            LEDGER,
            request.number,
            ledger=Flow(self._handling),
            start=self._follow_up,
            full=self._batch,
            **_EACH_BY_ITS_KEY,
        )

    @activity.defn(name="webhook.deliver")
    async def deliver(self, step: HandleStep) -> Handled:
        """Try one delivery once more. It goes back to the flow while the platform may not act by itself.

        Raises HandlingFailedError when it fails again, and TryAgainError when the database has trouble, which says
        nothing of the delivery.
        """
        attempt = step.tried + activity.info().attempt
        try:
            async with turn(step), self._sessions.begin() as session:
                outcome = await webhook_trouble.deliver(session, step.id, self._handling, attempt, step.woken)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises
            failure = webhook_trouble.failure_in(error, alone=True)
            if failure is None:
                raise TryAgainError(said(error)) from None
            raise await self._failed(step, failure, attempt) from None
        if outcome is None:
            return Handled(status="settled before", attempts=attempt)
        if outcome.waits:
            return Handled(status="in the flow again", attempts=step.tried, cause=outcome.waits)
        for found in outcome.detections:
            await self._follow_up(Detection(detection_id=found))
        return Handled(status="delivered", attempts=attempt, handled_as=outcome.handled_as)

    @activity.defn(name="webhook.bury")
    async def bury(self, step: HandleStep) -> Handled:
        """Give one delivery up, with its cause, its headers and its body kept for a replay."""
        async with self._sessions.begin() as session:
            buried = await webhook_trouble.bury(session, step.id, step.tried, step.woken)
        if buried is None:
            return Handled(status="settled before", attempts=step.tried)
        log.warning("webhook.buried", delivery=str(step.id), cause=buried.cause)
        return Handled(status="dead", attempts=buried.attempts, cause=buried.cause)

    async def _failed(self, step: HandleStep, failure: Failure, attempt: int) -> TryAgainError:
        """Write it down. One that ends its session each time fails; without a database nothing is said of it."""
        try:
            async with self._sessions.begin() as session:
                await webhook_trouble.attempt_failed(session, step.id, failure, attempt, step.woken)
        except (DBAPIError, OSError) as error:
            return TryAgainError(said(error))
        return HandlingFailedError(failure.error)

    async def _follow_up(self, wanted: FollowUp) -> None:
        """Start the workflow of what left the flow, or of a detection. What is not started, reconcile starts."""
        try:
            if isinstance(wanted, Detection):
                await announce(activity.client(), self._sessions, self._terms, wanted.detection_id)
            else:
                await temporal.start_handling(activity.client(), HandleRequest(left=wanted, retrying=self._retrying))
        except (RPCError, DBAPIError, OSError) as error:
            # The row says `retrying`, or that nobody has handled the detection.
            log.warning("webhook.not_started", what=str(wanted), why=scrubbed(str(error)))
