"""What one look at the platform needs, counted in the database."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.tables import Connection, OperatorTask
from integrations.domain.connection import BLOCKED, Status
from integrations.domain.message import Message


class ReauthStatus(Message):
    """Re-consent at a glance."""

    blocked: int
    """Connections that wait for their owner."""
    errored: int
    """Connections that wait for us."""
    since: datetime | None
    """How long the oldest of them waits."""
    open_tasks: int
    unacknowledged: int
    without_task: int
    """Blocked connections that nobody was asked to look after: there should be none."""


async def reauth_status(session: AsyncSession) -> ReauthStatus:
    blocked = Connection.status.in_(BLOCKED)
    troubled = Connection.status.in_((*BLOCKED, Status.ERRORED))
    has_task = (
        select(OperatorTask.id)
        .where(OperatorTask.connection_id == Connection.id, OperatorTask.status != "closed")
        .exists()
    )
    counted = (
        await session.execute(
            select(
                func.count().filter(blocked),
                func.count().filter(Connection.status == Status.ERRORED),
                func.min(Connection.status_since),
                func.count().filter(blocked & ~has_task),
            ).where(troubled)
        )
    ).one()
    tasks = (
        await session.execute(
            select(func.count(), func.count().filter(OperatorTask.status == "open")).where(
                OperatorTask.status != "closed", OperatorTask.connection_id.is_not(None)
            )
        )
    ).one()
    return ReauthStatus(
        blocked=counted[0],
        errored=counted[1],
        since=counted[2],
        without_task=counted[3],
        open_tasks=tasks[0],
        unacknowledged=tasks[1],
    )
