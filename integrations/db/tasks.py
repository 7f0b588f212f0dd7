"""Operator tasks: what a person is asked to do, one open per connection or provider, and kind."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import connections
from integrations.db.tables import OperatorTask
from integrations.domain.connection import BLOCKED
from integrations.domain.errors import StopError


async def open_task(
    session: AsyncSession,
    connection_id: UUID,
    kind: str,
    *,
    title: str,
    cause: str,
    way_out: str,
    lifecycle_id: UUID | None = None,
    session_id: UUID | None = None,
) -> OperatorTask:
    """Open a task, or bring the open one up to date: who acknowledged it stays."""
    told = {
        "title": title,
        "cause": cause,
        "way_out": way_out,
        "lifecycle_id": lifecycle_id,
        "session_id": session_id,
    }
    opened = await session.scalars(
        insert(OperatorTask)
        .values(id=uuid4(), connection_id=connection_id, kind=kind, status="open", **told)
        .on_conflict_do_update(
            index_elements=[OperatorTask.connection_id, OperatorTask.kind],
            # In words: with a parameter the index is not recognised once the statement has a generic plan.
            index_where=text("status <> 'closed'"),
            set_=told,
        )
        .returning(OperatorTask),
        execution_options={"populate_existing": True},
    )
    return opened.one()


async def of_provider(session: AsyncSession, provider_id: str, kind: str) -> OperatorTask | None:
    """The open task of this kind that is about the provider as a whole, as it is committed."""
    return await session.scalar(
        select(OperatorTask)
        .where(OperatorTask.provider_id == provider_id, OperatorTask.kind == kind, OperatorTask.status != "closed")
        .execution_options(populate_existing=True)
    )


async def open_for_provider(
    session: AsyncSession, provider_id: str, kind: str, *, title: str, cause: str, way_out: str
) -> OperatorTask:
    """Open a task about a provider as a whole. The caller has seen, under a lock, that none is open."""
    row = OperatorTask(
        id=uuid4(), provider_id=provider_id, kind=kind, status="open", title=title, cause=cause, way_out=way_out
    )
    session.add(row)
    await session.flush()
    return row


def close(row: OperatorTask, *, by: str, reason: str) -> None:
    row.status, row.closed_at, row.closed_by, row.closed_reason = "closed", func.now(), by, reason


CONTESTED: Final = "contested"
"""For a grant that the provider refuses to refresh and says to be alive."""
DOUBTED: Final = "doubted"
"""For a grant that a webhook says to be gone, when that may have been an earlier one and nothing can be tried."""
ALL_KINDS: Final = ("reauth", "errored", "registration", CONTESTED, DOUBTED)


async def close_all(
    session: AsyncSession, connection_id: UUID, *, by: str, reason: str, kinds: Sequence[str] = ALL_KINDS
) -> None:
    """Close the tasks of a connection that works again, or is given up: there is nothing left to do."""
    await session.execute(
        update(OperatorTask)
        .where(
            OperatorTask.connection_id == connection_id,
            OperatorTask.kind.in_(kinds),
            OperatorTask.status != "closed",
        )
        .values(status="closed", closed_at=func.now(), closed_by=by, closed_reason=reason)
    )


async def listed(session: AsyncSession, *, everything: bool) -> Sequence[OperatorTask]:
    query = select(OperatorTask).order_by(OperatorTask.created_at)
    return (await session.scalars(query if everything else query.where(OperatorTask.status != "closed"))).all()


async def find(session: AsyncSession, task_id: UUID, *, lock: bool = False) -> OperatorTask:
    """One task, locked on demand. Raises StopError when there is none."""
    row = await session.get(OperatorTask, task_id, with_for_update=lock or None, populate_existing=lock)
    if row is None:
        raise StopError(f"there is no task {task_id}; `runbook tasks list --all` shows those there are")
    return row


async def acknowledge(session: AsyncSession, task_id: UUID, *, by: str) -> bool:
    """True when the task is acknowledged, now or before; False when it is closed."""
    row = await find(session, task_id, lock=True)
    if row.status == "open":
        row.status, row.acknowledged_at, row.acknowledged_by = "acknowledged", func.now(), by
    return row.status != "closed"


async def close_by_hand(session: AsyncSession, task_id: UUID, *, by: str, reason: str) -> bool:
    """Close a task. True when it is closed, False when it stays.

    It stays while its connection still waits for its owner; a provider's ends with what it is about.
    """
    found = await find(session, task_id)
    if found.connection_id is None:
        return found.status == "closed"
    # The connection first, as everybody else locks them: it must not become blocked while its task is being closed.
    connection = await connections.lock(session, found.connection_id)
    task = await find(session, task_id, lock=True)
    if task.status != "closed" and connection.status in BLOCKED:
        return False
    if task.status != "closed":
        close(task, by=by, reason=reason)
    return True
