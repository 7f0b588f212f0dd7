"""What is done with a lifecycle while it waits for its owner: by the clock, or by a person.

Each is one transaction under the connection's lock. What has no say any more, or was carried out before, does nothing.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import consents, ending, reauth
from integrations.db.outbox import enqueue
from integrations.db.tables import Connection, ConsentSession, OperatorTask
from integrations.domain.connection import BLOCKED, Status, masked
from integrations.domain.reauth import Extend, Order
from integrations.domain.run import Run


async def remind(session: AsyncSession, order: Order) -> bool:
    """Tell the owner once more. False when no invitation waits for an answer, or when this was told before."""
    row = await ending.locked_by(session, order)
    invitation = await consents.open_session(session, order.lifecycle_id)
    if row is None or invitation is None or invitation.status != "invited":
        return False
    payload = {
        "session_id": str(invitation.id),
        "account": masked(row.account_name),
        "why": invitation.why,
        "until": invitation.expires_at.isoformat(),
    }
    return await _tell(session, row, order, "reauth.reminder", payload)


async def escalate(session: AsyncSession, order: Order) -> bool:
    """Pass the task on to the secondary on-call. False when somebody has acknowledged it, or put it off."""
    row = await ending.locked_by(session, order)
    task = await _task(session, row) if row is not None else None
    if row is None or task is None or row.status not in BLOCKED:
        return False
    if task.status != "open" or task.escalated_at is not None or _is_snoozed(task):
        return False
    task.escalated_at = func.now()
    return await _tell(session, row, order, "reauth.escalated", {"task": str(task.id), "title": task.title})


async def acknowledge(session: AsyncSession, order: Order) -> bool:
    """Somebody knows. False when there is no task to know of."""
    row = await ending.locked_by(session, order)
    task = await _task(session, row) if row is not None else None
    if row is None or task is None:
        return False
    if task.status == "open":
        task.status, task.acknowledged_at, task.acknowledged_by = "acknowledged", func.now(), order.by
        await _tell(session, row, order, "reauth.acknowledged", {"task": str(task.id)})
    return True


async def extend(session: AsyncSession, order: Extend) -> bool:
    """Give the owner more or less time. False when nobody waits any more."""
    row = await ending.locked_by(session, order)
    if row is None:
        return False
    await session.execute(
        update(ConsentSession)
        .where(ConsentSession.lifecycle_id == order.lifecycle_id, ConsentSession.status.in_(consents.OPEN))
        .values(expires_at=order.until)
    )
    await _tell(session, row, order, "reauth.extended", {"until": order.until.isoformat()})
    return True


async def snooze(session: AsyncSession, order: Extend) -> bool:
    """Leave everybody alone until a date. The task stays open, and the connection as it is."""
    row = await ending.locked_by(session, order)
    task = await _task(session, row) if row is not None else None
    if row is None or task is None:
        return False
    task.snoozed_until = order.until
    await _tell(session, row, order, "reauth.snoozed", {"until": order.until.isoformat(), "task": str(task.id)})
    return True


async def disconnect(session: AsyncSession, order: Order, *, run: Run | None = None) -> bool:
    """Give the connection up by a person's wish. False when this lifecycle has no say over it any more."""
    row = await ending.locked_by(session, order)
    if row is None:
        return False
    among = tuple(status for status in Status if status is not Status.DISCONNECTED)
    await ending.give_up(session, row, among=among, reason=order.reason, actor=order.by, ended="expired", run=run)
    return True


async def _task(session: AsyncSession, row: Connection) -> OperatorTask | None:
    return await session.scalar(
        select(OperatorTask)
        .where(OperatorTask.connection_id == row.id, OperatorTask.kind == reauth.TASK, OperatorTask.status != "closed")
        .with_for_update()
    )


def _is_snoozed(task: OperatorTask) -> bool:
    return task.snoozed_until is not None and task.snoozed_until > datetime.now(task.snoozed_until.tzinfo)


async def _tell(session: AsyncSession, row: Connection, order: Order, name: str, payload: dict[str, Any]) -> bool:
    told = payload | {"by": order.by, "reason": order.reason}
    return await enqueue(session, row.id, _event_id(order), name, told)


def _event_id(order: Order) -> UUID:
    return uuid5(order.lifecycle_id, order.key)
