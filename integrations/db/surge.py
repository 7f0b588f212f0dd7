"""Telling a surge of terminal answers at one provider from revocations, in the very transaction that would act on one.

Whoever writes of a provider's refusals holds that provider's lock until the commit: of two that decide at once, the
second counts the first. Its place in the order of locks is behind the connections' rows and before everything here.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import tasks
from integrations.db.outbox import enqueue_apart
from integrations.db.surge_counts import Refusal, Watched, add_tries, count, hold, lock, note, try_lock
from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import Connection, OperatorTask
from integrations.domain.ids import new_event_id
from integrations.domain.surge import OVER, RAISED, TASK, Counted, Limits, way_out

_ACTOR: Final = "RefreshWorkflow"


async def tried(
    session: AsyncSession, at: Watched, *, worked: Collection[UUID] = (), refused: Sequence[Refusal] = ()
) -> frozenset[UUID]:
    """Count refreshes that were answered, one connection or a chunk of them, in the transaction that settles them.

    `refused`: the first look at each, to be confirmed. Those that are given back are held back already, by a surge that
    is known: they need no second look. `worked`: their new credentials are stored; a surge that is no more is closed.
    What was not answered is not counted: a provider in trouble says nothing of its grants, neither bad nor good.
    """
    ids = [*worked, *(each.connection_id for each in refused)]
    if not ids:
        return frozenset()
    known = await add_tries(session, at, ids)
    if not refused and not known:
        return frozenset()
    if refused:
        await lock(session, at.provider_id, refused)
        await note(session, at, refused)
    elif not await try_lock(session, at.provider_id):
        # Good news in a surge that somebody else counts already: nobody's refresh waits for that.
        return frozenset()
    counted = await count(session, at)
    task = await tasks.of_provider(session, at.provider_id, TASK)
    if task is None and counted.is_surge(at.limits):
        # At once: each of them would get a workflow, and be asked again, before the first is confirmed.
        task = await _raise(session, at, counted)
    if task is None or not await _goes_on(session, at, task, counted):
        return frozenset()
    return await hold(session, refused)


async def suspected(session: AsyncSession, at: Watched, refused: Refusal) -> str | None:
    """Ask before a confirmed refusal is acted on, with the connection locked. None: act on it.

    Otherwise why not, in words: it is one of a surge and held back. The first of a surge calls the operators, once.
    """
    await lock(session, at.provider_id, [refused])
    await note(session, at, [refused])
    counted = await count(session, at)
    task = await tasks.of_provider(session, at.provider_id, TASK)
    if task is None and counted.is_surge(at.limits):
        task = await _raise(session, at, counted)
    if task is None or not await _goes_on(session, at, task, counted):
        return None
    held = await hold(session, [refused])
    return f"held back, one of a surge: {counted.words(at.limits)}" if held else None


async def release(
    session: AsyncSession, provider_id: str, limits: Limits, *, by: str, reason: str
) -> Sequence[Connection] | None:
    """By a person's word what a provider refuses by now may be acted on, when it is refused again.

    The connections that were held back. None when there is no surge. Only these versions are released, with those that
    wait for their second look or were acted on: who is refused for the first time after it is counted anew.
    """
    await lock(session, provider_id, [])
    task = await tasks.of_provider(session, provider_id, TASK)
    if task is None:
        return None
    held = RefreshRefusal.held_at.is_not(None)
    rows = select(Connection).join(RefreshRefusal).where(RefreshRefusal.provider_id == provider_id, held)
    found = (await session.scalars(rows.order_by(Connection.id))).all()
    await session.execute(
        update(RefreshRefusal)
        .where(RefreshRefusal.provider_id == provider_id, held | (RefreshRefusal.at > func.now() - limits.window))
        .values(held_at=None, released_at=func.now())
    )
    await _close(session, task, by=by, reason=reason)
    return found


async def _raise(session: AsyncSession, at: Watched, counted: Counted) -> OperatorTask:
    task = await tasks.open_for_provider(
        session,
        at.provider_id,
        TASK,
        title=f"{at.name} refuses many refreshes at once: held back",
        cause=_cause(at, counted),
        way_out=way_out(at.provider_id, at.fix, counted.meaning),
    )
    await _tell(session, RAISED, task, counted.model_dump(mode="json"))
    return task


async def _goes_on(session: AsyncSession, at: Watched, task: OperatorTask, counted: Counted) -> bool:
    """Bring the operators' task up to date, or close it when what is left is no surge."""
    if counted.is_surge(at.limits):
        task.cause = _cause(at, counted)
        return True
    await session.execute(
        update(RefreshRefusal)
        .where(RefreshRefusal.provider_id == at.provider_id, RefreshRefusal.held_at.is_not(None))
        .values(held_at=None)
    )
    await _close(session, task, by=_ACTOR, reason="refreshes work again: what is still refused is no surge")
    return False


def _cause(at: Watched, counted: Counted) -> str:
    return f"{counted.words(at.limits)}. None of them is acted on: a wrong client secret or a provider's bug looks so"


async def _close(session: AsyncSession, task: OperatorTask, *, by: str, reason: str) -> None:
    tasks.close(task, by=by, reason=reason)
    await _tell(session, OVER, task, {"by": by, "reason": reason})


async def _tell(session: AsyncSession, event: str, task: OperatorTask, told: dict[str, Any]) -> None:
    assert task.provider_id is not None
    payload = {"task": str(task.id), "title": task.title, "cause": task.cause, "way_out": task.way_out} | told
    await enqueue_apart(
        session,
        new_event_id(),
        event,
        payload,
        provider_id=task.provider_id,
        scope_type="org",
        scope_id="operators",
        order_key=f"surge:{task.provider_id}",
    )
