"""What fell between two commits: rows whose next step never happened."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import connections, credentials
from integrations.db.tables import Connection, ConsentSession, GrantEvent
from integrations.domain.connection import BLOCKED
from integrations.domain.reauth import Detected

SETTLED: Final = timedelta(seconds=20)
"""Younger rows are left to whoever wrote them: the next step is probably on its way."""
BATCH: Final = 500


async def unhandled_detections(session: AsyncSession) -> Sequence[UUID]:
    query = select(GrantEvent.id).where(GrantEvent.handled_at.is_(None), GrantEvent.noticed_at < func.now() - SETTLED)
    return (await session.scalars(query.order_by(GrantEvent.noticed_at).limit(BATCH))).all()


async def unsignalled_consents(session: AsyncSession) -> Sequence[ConsentSession]:
    """Consents that came back and were not taken up: the signal was lost, or is still waiting for a worker."""
    query = select(ConsentSession).where(
        ConsentSession.status == "received", ConsentSession.received_at < func.now() - SETTLED
    )
    return (await session.scalars(query.order_by(ConsentSession.received_at).limit(BATCH))).all()


async def blocked_after(session: AsyncSession, last: UUID | None) -> Sequence[Connection]:
    """A page of the connections that wait for their owner, by id."""
    query = select(Connection).where(Connection.status.in_(BLOCKED), Connection.status_since < func.now() - SETTLED)
    if last is not None:
        query = query.where(Connection.id > last)
    return (await session.scalars(query.order_by(Connection.id).limit(BATCH))).all()


async def detect_abandoned(session: AsyncSession, connection: Connection) -> UUID:
    """Write down that a blocked connection has nobody who looks after it."""
    active = await credentials.active(session, connection.id)
    revoked = connection.status == "pending_reauth"
    return await connections.detect(
        session,
        connection.id,
        Detected.REVOKED if revoked else Detected.DOWNGRADED,
        cause=connection.status_reason,
        actor="ReconcileWorkflow",
        version=active.version if active else None,
        evidence={"found": "blocked without a living lifecycle", "missing": list(connection.missing_grants)},
    )
