"""The activity around a dispatcher: its connection, seat and end. One for all ledgers whose effects are ours."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import uuid4

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.dispatch import Dispatch, Ledger
from activities.heart import beating
from activities.trouble import said
from integrations.db.dedicated import dedicated
from integrations.db.dispatchers import Seat
from integrations.db.session import Sessions
from integrations.db.trouble import ended_the_session
from integrations.domain.errors import TryAgainError
from integrations.domain.outbox import Drained

log = structlog.get_logger("dispatcher")
FollowUp = TypeVar("FollowUp")
_LET_START: Final = 5.0


async def drain(
    sessions: Sessions,
    url: str,
    name: str,
    number: int,
    *,
    ledger: Ledger[FollowUp],
    start: Callable[[FollowUp], Awaitable[None]],
    full: int,
    **settings: str,
) -> Drained:
    """Own partitions of the ledger `name` and move its items until there is a reason to stop.

    `url`: for a connection which no pool may share, and `settings` are its server's. `full`: items in one batch. Raises
    TryAgainError when the database has trouble. The next attempt begins with smaller batches when this one ends without
    a word.
    """
    seat = Seat(name, number, f"{os.getpid()}@{socket.gethostname()}:{uuid4().hex[:8]}")
    try:
        async with beating(), dedicated(url, f"runbook {name} dispatcher {number}", **settings) as connection:
            dispatch = Dispatch(
                seat=seat,
                ledger=ledger,
                connection=connection,
                start=start,
                leaving=activity.is_worker_shutdown,
                full=full,
            )
            try:
                return await dispatch.run(again=activity.info().attempt > 1)
            finally:
                await dispatch.started(within=_LET_START)
    except (DBAPIError, OSError) as error:
        # Or found ended, when an error in it was to be undone.
        lost = isinstance(error, DBAPIError) and (ended_the_session(error) or error.connection_invalidated)
        why = said(error)
        await _tell(sessions, lambda session: seat.failed(session, why, lost=lost))
        raise TryAgainError(f"dispatcher {number}: {why}") from None
    except asyncio.CancelledError:
        # Taken over, or terminated: an orderly end, after which nothing is suspected.
        await _tell(sessions, lambda session: seat.leave(session, 0))
        raise


async def _tell(sessions: Sessions, write: Callable[[AsyncSession], Awaitable[None]]) -> None:
    """On another connection than the dispatcher's, which may be gone."""
    try:
        async with sessions.begin() as session:
            await write(session)
    except (DBAPIError, OSError) as error:
        log.warning("dispatcher.untold", why=said(error))
