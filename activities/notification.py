"""Notifications: a channel's drain, and what becomes of a message that left it."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from activities.heart import beating
from activities.notification_drain import ChannelDrain
from activities.notification_ending import Ending
from activities.notification_message import Composer
from activities.notification_senders import Done, Trouble, answered
from activities.starting import Starting
from activities.trouble import said
from integrations import temporal
from integrations.db import notification_claims as claims
from integrations.db import notification_expand as expansion
from integrations.db import notification_flow as flow
from integrations.db import notification_holds as holding
from integrations.db.dedicated import dedicated
from integrations.db.dispatchers import Seat
from integrations.db.notification_claims import Claimed
from integrations.db.notification_flow import Settled
from integrations.db.session import Sessions
from integrations.db.trouble import ended_the_session
from integrations.domain.errors import NotReadyError, StopError, TryAgainError
from integrations.domain.ledger import Failure
from integrations.domain.notification import LEDGER, part_of
from integrations.domain.notification_delivery import BATCH, ChannelRequest, Left, Sending, SendRequest, SendStep, Sent
from integrations.domain.outbox import Retrying
from integrations.observability import scrubbed
from integrations.providers.channels.channel import Channel

log = structlog.get_logger("notification")
WIDTH: Final = 32
"""Messages of one channel on their way at once (docs/decisions/0007)."""
_LET_START: Final = 5.0
_SLACK: Final = timedelta(minutes=10)
"""Beyond the longest wait between two attempts: one that nobody spoke of for so long has lost its workflow."""
_BY: Final = "NotificationDeliveryWorkflow"


class SendFailedError(TryAgainError):
    """It did not arrive. Its retry policy decides how often it is sent again."""


def went_on(step: SendStep) -> None:
    """Raise what the first attempt ended with, when it was made elsewhere: the retry policy goes on from there."""
    if step.first is not None and activity.info().attempt == 1:
        raise ApplicationError(
            step.first.why,
            type=step.first.kind,
            next_retry_delay=step.first.after,
            category=ApplicationErrorCategory.BENIGN,
        )


class NotificationActivities:
    def __init__(
        self,
        sessions: Sessions,
        url: str,
        channels: Mapping[str, Channel],
        rules: expansion.Rules,
        composer: Composer,
        ending: Ending,
        retrying: Retrying,
        *,
        batch: int = BATCH,
        width: int = WIDTH,
    ) -> None:
        """`url`: for the connections of dispatchers, which no pool may share."""
        self._sessions = sessions
        self._url = url
        self._channels = channels
        self._rules = rules
        self._composer = composer
        self._ending = ending
        self._retrying = retrying
        self._batch = batch
        self._width = width
        self._done = {name: Done() for name in channels}
        self._trouble = {name: Trouble() for name in channels}
        self._arrived: dict[UUID, str] = {}
        """Messages that arrived and could not be settled yet, with the version of their templates."""

    @activity.defn(name="notification.drain")
    async def drain(self, request: ChannelRequest) -> Sending:
        """Expand requests and send what is due by one channel, until there is a reason to stop.

        Raises TryAgainError when the database has trouble.
        """
        worker = f"{os.getpid()}@{socket.gethostname()}:{uuid4().hex[:8]}"
        seat = Seat(LEDGER, part_of(request.channel), worker)
        starting = Starting(self._start)
        try:
            name = f"runbook {LEDGER} dispatcher {request.channel}"
            async with beating(), dedicated(self._url, name) as connection:
                drain = ChannelDrain(
                    seat=seat,
                    connection=connection,
                    channel=self._channel(request.channel),
                    rules=self._rules,
                    composer=self._composer,
                    ending=self._ending,
                    starting=starting,
                    leaving=activity.is_worker_shutdown,
                    done=self._done[request.channel],
                    trouble=self._trouble[request.channel],
                    full=self._batch,
                    width=self._width,
                    first_wait=self._retrying.first,
                )
                try:
                    return await drain.run(again=activity.info().attempt > 1)
                except (asyncio.CancelledError, DBAPIError, OSError):
                    # Taken over, or its session is gone: what arrived until then must not be sent again for that.
                    await self._leave_behind(drain)
                    raise
                finally:
                    await starting.done(within=_LET_START)
        except (DBAPIError, OSError) as error:
            lost = isinstance(error, DBAPIError) and (ended_the_session(error) or error.connection_invalidated)
            why = said(error)
            await self._tell(lambda session: seat.failed(session, why, lost=lost))
            raise TryAgainError(f"{request.channel} dispatcher: {why}") from None
        except asyncio.CancelledError:
            # Taken over, or terminated: an orderly end, after which nothing is suspected.
            await self._tell(lambda session: seat.leave(session, 0))
            raise

    @activity.defn(name="notification.send")
    async def send(self, step: SendStep) -> Sent:
        """Try one message once more.

        Raises SendFailedError when it does not arrive, with the wait that the other side asked for, and TryAgainError
        when the database has trouble or a key is missing, which says nothing of the message.
        """
        went_on(step)
        try:
            return await self._tried(step)
        except (DBAPIError, OSError) as error:
            raise TryAgainError(said(error)) from None

    @activity.defn(name="notification.give_up")
    async def give_up(self, step: SendStep) -> Sent:
        """Its attempts are used up: the recipient's next channel, or dead, with all that was to be said."""
        async with self._sessions.begin() as session:
            item = await claims.claim_one(session, step.dispatch_id)
        if item is None:
            return Sent(status="settled before", attempts=step.tried)
        failure = item.failure or Failure.of("Crash", "its process ended without a word each time")
        return await self._given_up(item, failure, tried=False)

    async def _tried(self, step: SendStep) -> Sent:
        async with self._sessions.begin() as session:
            item = await claims.claim_one(session, step.dispatch_id)
            known = await self._composer.known(session, [item]) if item is not None else None
        if item is None or known is None:
            return Sent(status="settled before", attempts=step.tried)
        if item.id in self._arrived:
            return await self._sent(item, self._arrived[item.id])
        composed = self._composer.compose(item, known)
        if isinstance(composed, Settled) and composed.status == "retrying":
            raise NotReadyError(composed.failure.error)
        if isinstance(composed, Settled):
            async with self._sessions.begin() as session:
                return await self._ended(session, composed)
        answer = await answered(self._channel(item.channel), composed.outgoing)
        if answer.sent:
            self._arrived[item.id] = composed.version
            return await self._sent(item, composed.version)
        failure = Failure.of(answer.kind, answer.why)
        if answer.refused:
            return await self._given_up(item, failure, tried=True)
        await self._again(item, failure, answer.after)
        raise SendFailedError(f"{failure.error}", after=answer.after)

    async def _sent(self, item: Claimed, version: str) -> Sent:
        async with self._sessions.begin() as session:
            await flow.sent(session, part_of(item.channel), item.channel, [(item, version)])
            await holding.let_go(session, item, arrived=True)
        self._arrived.pop(item.id, None)
        return Sent(status="delivered", attempts=item.attempts + 1)

    async def _given_up(self, item: Claimed, failure: Failure, *, tried: bool) -> Sent:
        # One transaction: what follows by another channel and what ends by this one are the same decision.
        async with self._sessions.begin() as session:
            if not await claims.in_hand(session, [item]):
                return Sent(status="settled before", attempts=item.attempts)
            return await self._ended(session, await self._ending.give_up(session, item, failure, tried=tried))

    async def _ended(self, session: AsyncSession, settled: Settled) -> Sent:
        item = settled.item
        await flow.settle(session, [settled], by=_BY)
        await holding.let_go(session, item, arrived=False)
        if settled.status == "dead":
            log.warning("notification.dead", dispatch_id=str(item.id), cause=settled.failure.cause)
        return Sent(status=settled.status, attempts=item.attempts + settled.tried, cause=settled.failure.cause)

    async def _again(self, item: Claimed, failure: Failure, after: timedelta | None) -> None:
        """Write down one more failed attempt, and that somebody is at it."""
        lease = max(self._retrying.most, 2 * (after or timedelta())) + _SLACK
        async with self._sessions.begin() as session:
            await flow.settle(session, [Settled(item, "retrying", failure, tried=True, lease=lease)], by=_BY)

    def _channel(self, name: str) -> Channel:
        if name not in self._channels:
            raise StopError(f"there is no channel {name!r}; there are {', '.join(self._channels)}")
        return self._channels[name]

    async def _start(self, left: Left) -> None:
        try:
            await temporal.start_sending(activity.client(), SendRequest(left=left, retrying=self._retrying))
        except RPCError as error:
            # The row says `retrying`, and reconcile finds it without a workflow when its lease is over.
            log.warning("notification.not_started", workflow_id=left.key, why=scrubbed(str(error)))

    async def _leave_behind(self, drain: ChannelDrain) -> None:
        try:
            await drain.leave_behind(self._sessions)
        except (DBAPIError, OSError) as error:
            # The next attempt in this process settles it, or its lease ends.
            log.warning("notification.untold", why=said(error))

    async def _tell(self, write: Callable[[AsyncSession], Awaitable[None]]) -> None:
        """On another connection than the dispatcher's, which may be gone."""
        try:
            async with self._sessions.begin() as session:
                await write(session)
        except (DBAPIError, OSError) as error:
            log.warning("notification.untold", why=said(error))
