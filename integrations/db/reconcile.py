"""What fell between two commits: rows whose next step never happened."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import connections, credentials, shield
from integrations.db.tables import WATCHED, Connection, ConsentSession, GrantEvent, OperatorTask
from integrations.domain.connection import BLOCKED, Status
from integrations.domain.reauth import Detected

SETTLED: Final = timedelta(seconds=20)
"""Younger rows are left to whoever wrote them: the next step is probably on its way."""
TOLD_AGAIN: Final = timedelta(hours=1)
"""A signal waits in the workflow while the provider is down: telling it each minute would fill its history."""
BATCH: Final = 500
_FOUND: Final = {Status.PENDING_REAUTH: Detected.REVOKED, Status.NEEDS_RECONSENT: Detected.DOWNGRADED}


async def unhandled_detections(session: AsyncSession, *, ordered_only: bool = False) -> Sequence[UUID]:
    """Detections that nobody took up. In a backlog they wait their turn: announced once more, but not each minute.

    `ordered_only`: those that wait for the platform to act by itself again do not stand in the way of people's.
    """
    unheard = GrantEvent.announced_at.is_(None) | (GrantEvent.announced_at < func.now() - TOLD_AGAIN)
    query = select(GrantEvent.id).where(
        GrantEvent.handled_at.is_(None), GrantEvent.noticed_at < func.now() - SETTLED, unheard
    )
    if ordered_only:
        query = query.where(GrantEvent.ordered)
    else:
        # So do those that wait for their provider's outage to be over.
        query = query.join(Connection).where(GrantEvent.ordered | ~shield.over_each())
    return (await session.scalars(query.order_by(GrantEvent.noticed_at).limit(BATCH))).all()


async def announced(session: AsyncSession, detection_id: UUID) -> None:
    await session.execute(update(GrantEvent).where(GrantEvent.id == detection_id).values(announced_at=func.now()))


async def unsignalled_consents(session: AsyncSession) -> Sequence[ConsentSession]:
    """Consents that came back some time ago and were not taken up: whoever was to hear of it may not have."""
    silent = ConsentSession.signalled_at.is_(None) | (ConsentSession.signalled_at < func.now() - TOLD_AGAIN)
    query = select(ConsentSession).where(
        ConsentSession.status == "received", ConsentSession.received_at < func.now() - SETTLED, silent
    )
    return (await session.scalars(query.order_by(ConsentSession.received_at).limit(BATCH))).all()


async def watched_after(session: AsyncSession, last: UUID | None) -> Sequence[Connection]:
    """A page of the connections that must have a living lifecycle, by id."""
    query = select(Connection).where(text(f"({WATCHED})"), Connection.status_since < func.now() - SETTLED)
    if last is not None:
        query = query.where(Connection.id > last)
    return (await session.scalars(query.order_by(Connection.id).limit(BATCH))).all()


async def detect_abandoned(session: AsyncSession, found: Connection) -> UUID | None:
    """Write down that a connection which waits for its owner has nobody who looks after it.

    None when it was repaired or taken up since it was found.
    """
    connection = await connections.lock(session, found.id)
    if (connection.status, connection.lifecycle_id) != (found.status, found.lifecycle_id):
        return None
    waiting = await session.scalar(
        select(GrantEvent.id).where(GrantEvent.connection_id == found.id, GrantEvent.handled_at.is_(None)).limit(1)
    )
    if waiting is not None:
        return waiting  # it was written down before, and nobody could take it up
    active = await credentials.active(session, connection.id)
    return await connections.detect(
        session,
        connection.id,
        _FOUND.get(Status(connection.status), Detected.REQUESTED),
        cause=connection.status_reason,
        actor="ReconcileWorkflow",
        version=active.version if active else None,
        evidence={"found": "without a living lifecycle", "missing": list(connection.missing_grants)},
    )


async def without_task(session: AsyncSession, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the connections that no open task tells an operator of."""
    told = select(OperatorTask.connection_id).where(
        OperatorTask.connection_id.in_(ids), OperatorTask.status != "closed"
    )
    return set(ids) - set((await session.scalars(told)).all())


async def settled_elsewhere(session: AsyncSession, ids: Sequence[UUID]) -> Sequence[Connection]:
    """Those of the connections that no lifecycle has a say over any more, while theirs was never told to end."""
    # With a detection on its way the lifecycle has not opened yet: it is to begin, not to end.
    begins = select(GrantEvent.id).where(GrantEvent.connection_id == Connection.id, GrantEvent.handled_at.is_(None))
    query = select(Connection).where(
        Connection.id.in_(ids),
        Connection.status.not_in(BLOCKED),
        Connection.lifecycle_id.is_(None),
        Connection.status_since < func.now() - SETTLED,
        ~begins.exists(),
    )
    return (await session.scalars(query)).all()
