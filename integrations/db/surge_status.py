"""What people see of surges: which providers have one, and whom it holds back."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import Connection, OperatorTask
from integrations.domain.message import Message
from integrations.domain.surge import TASK


class Surge(Message):
    """One provider's."""

    provider: str
    task: UUID
    since: datetime
    cause: str
    """Counts and the commonest answer, in words."""
    way_out: str
    held: int
    """Connections that are held back."""


class HeldBack(Message):
    connection: UUID
    provider: str
    owner: str
    since: datetime
    answer: str
    rule: str


async def surges(session: AsyncSession) -> list[Surge]:
    """Those that are not over, the oldest first."""
    found = await session.execute(
        select(OperatorTask, func.count(RefreshRefusal.connection_id))
        .outerjoin(
            RefreshRefusal,
            (RefreshRefusal.provider_id == OperatorTask.provider_id) & RefreshRefusal.held_at.is_not(None),
        )
        .where(OperatorTask.provider_id.is_not(None), OperatorTask.kind == TASK, OperatorTask.status != "closed")
        .group_by(OperatorTask.id)
        .order_by(OperatorTask.created_at)
    )
    return [
        Surge(
            provider=task.provider_id or "",
            task=task.id,
            since=task.created_at,
            cause=task.cause,
            way_out=task.way_out,
            held=held,
        )
        for task, held in found
    ]


async def held_back(session: AsyncSession, provider_id: str | None, limit: int) -> list[HeldBack]:
    """Connections whose refusal nobody acts on, the longest held first; of one provider, or of all."""
    query = (
        select(RefreshRefusal, Connection)
        .join(Connection, Connection.id == RefreshRefusal.connection_id)
        .where(RefreshRefusal.held_at.is_not(None))
        .order_by(RefreshRefusal.held_at, Connection.id)
        .limit(limit)
    )
    if provider_id is not None:
        query = query.where(RefreshRefusal.provider_id == provider_id)
    return [
        HeldBack(
            connection=row.id,
            provider=row.provider_id,
            owner=row.tenant,
            since=refusal.held_at,
            answer=refusal.answer,
            rule=refusal.rule,
        )
        for refusal, row in await session.execute(query)
    ]
