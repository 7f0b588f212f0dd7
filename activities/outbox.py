"""The outbox's steps: the drain, and what becomes of a projection that left it."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.service import RPCError

from activities.dispatch import Dispatch
from activities.heart import beating
from activities.trouble import said
from integrations import temporal
from integrations.db import outbox_trouble
from integrations.db.dedicated import dedicated
from integrations.db.dispatchers import Seat
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
_LET_START: Final = 5.0


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
        worker = f"{os.getpid()}@{socket.gethostname()}:{uuid4().hex[:8]}"
        seat = Seat(LEDGER, request.number, worker)
        try:
            async with beating(), dedicated(self._url, f"runbook {LEDGER} dispatcher {request.number}") as connection:
                dispatch = Dispatch(
                    seat=seat,
                    ledger=Flow(self._projectors),
                    connection=connection,
                    start=self._start,
                    leaving=activity.is_worker_shutdown,
                    full=self._batch,
                )
                try:
                    return await dispatch.run(again=activity.info().attempt > 1)
                finally:
                    await dispatch.started(within=_LET_START)
        except (DBAPIError, OSError) as error:
            # Or found ended, when an error in it was to be undone.
            lost = isinstance(error, DBAPIError) and (ended_the_session(error) or error.connection_invalidated)
            why = said(error)
            await self._tell(lambda session: seat.failed(session, why, lost=lost))
            raise TryAgainError(f"dispatcher {request.number}: {why}") from None
        except asyncio.CancelledError:
            # Taken over, or terminated: an orderly end, after which nothing is suspected.
            await self._tell(lambda session: seat.leave(session, 0))
            raise

    @activity.defn(name="outbox.deliver")
    async def deliver(self, step: DeliveryStep) -> Delivered:
        """Try one projection once more.

        Raises ProjectionFailedError when it fails again, and TryAgainError when the database has trouble, which says
        nothing of the event.
        """
        attempt = step.tried + activity.info().attempt
        try:
            async with self._sessions.begin() as session:
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
            buried = await outbox_trouble.bury(session, step.event_id, step.projector)
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

    async def _tell(self, write: Callable[[AsyncSession], Awaitable[None]]) -> None:
        """On another connection than the dispatcher's, which may be gone."""
        try:
            async with self._sessions.begin() as session:
                await write(session)
        except (DBAPIError, OSError) as error:
            log.warning("outbox.untold", why=said(error))
