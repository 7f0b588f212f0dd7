"""The outbox's steps: the drain, and what becomes of a projection that left it."""

from collections.abc import Mapping
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.service import RPCError

from activities.alone import turn
from activities.draining import drain
from activities.trouble import said
from integrations import temporal
from integrations.db import outbox_trouble
from integrations.db.outbox_flow import Flow
from integrations.db.projectors import PROJECTORS, Projector
from integrations.db.session import Sessions
from integrations.db.trouble import ended_the_session, failure_of, is_the_items
from integrations.domain.errors import StopError, TryAgainError
from integrations.domain.ledger import Failure
from integrations.domain.outbox import (
    BATCH,
    Delivered,
    DeliveryRequest,
    DeliveryStep,
    DispatchRequest,
    Drained,
    Pair,
    Retrying,
)
from integrations.observability import scrubbed

log = structlog.get_logger("outbox")
LEDGER: Final = "outbox"


class ProjectionFailedError(TryAgainError):
    """The projector refuses this event. Its retry policy decides how often it is shown it again."""


class OutboxActivities:
    def __init__(
        self,
        sessions: Sessions,
        url: str,
        retrying: Retrying,
        *,
        batch: int = BATCH,
        projectors: Mapping[str, Projector] = PROJECTORS,
    ) -> None:
        """`url`: for the connections of dispatchers, which no pool may share."""
        self._sessions = sessions
        self._url = url
        self._retrying = retrying
        self._batch = batch
        self._projectors = projectors

    @activity.defn(name="outbox.drain")
    async def drain(self, request: DispatchRequest) -> Drained:
        """Own partitions and move their events until there is a reason to stop.

        Raises TryAgainError when the database has trouble. The next attempt begins with smaller batches when this one
        ends without a word.
        """
        return await drain(
            self._sessions,
            self._url,
            LEDGER,
            request.number,
            ledger=Flow(self._projectors),
            start=self._start,
            full=self._batch,
        )

    @activity.defn(name="outbox.deliver")
    async def deliver(self, step: DeliveryStep) -> Delivered:
        """Try one projection once more.

        Raises ProjectionFailedError when it fails again, and TryAgainError when the database has trouble, which says
        nothing of the event.
        """
        attempt = step.tried + activity.info().attempt
        try:
            async with turn(step), self._sessions.begin() as session:
                projector = self._projector(step.projector)
                done = await outbox_trouble.deliver(session, step.event_id, step.projector, projector, attempt)
        except DBAPIError as error:
            if not (is_the_items(error) or ended_the_session(error)):
                raise TryAgainError(said(error)) from None
            raise await self._failed(step, failure_of(error), attempt) from None
        return Delivered(status="delivered" if done else "settled before", attempts=attempt)

    @activity.defn(name="outbox.bury")
    async def bury(self, step: DeliveryStep) -> Delivered:
        """Give one projection up, with its cause and its event kept for a replay."""
        async with self._sessions.begin() as session:
            buried = await outbox_trouble.bury(session, step.event_id, step.projector, step.tried)
        if buried is None:
            return Delivered(status="settled before", attempts=step.tried)
        log.warning("outbox.buried", event_id=str(step.event_id), projector=step.projector, cause=buried.cause)
        return Delivered(status="dead", attempts=buried.attempts, cause=buried.cause)

    async def _failed(self, step: DeliveryStep, failure: Failure, attempt: int) -> TryAgainError:
        """Write it down. An event that ends its session each time fails; without a database nothing is said of it."""
        try:
            async with self._sessions.begin() as session:
                await outbox_trouble.attempt_failed(session, step.event_id, step.projector, failure, attempt)
        except (DBAPIError, OSError) as error:
            return TryAgainError(said(error))
        return ProjectionFailedError(failure.error)

    def _projector(self, name: str) -> Projector:
        if name not in self._projectors:
            raise StopError(f"there is no projector {name!r}; there are {', '.join(self._projectors)}")
        return self._projectors[name]

    async def _start(self, pair: Pair) -> None:
        request = DeliveryRequest(pair=pair, retrying=self._retrying)
        try:
            await temporal.start_delivery(activity.client(), request)
        except RPCError as error:
            # The row says `retrying`, and reconcile finds it without a workflow when its lease is over.
            log.warning("outbox.not_started", workflow_id=pair.key, why=scrubbed(str(error)))
