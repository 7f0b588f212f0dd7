"""Telling a surge of terminal answers at one provider from revocations, in the very transaction that would act on one.

Whoever writes of a provider's refusals holds that provider's lock until the commit: of two that decide at once, the
second counts the first. Its place in the order of locks is behind the connections' rows and before everything here.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import tasks
from integrations.db.outbox import enqueue_apart
from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import Connection, OperatorTask
from integrations.domain.ids import new_event_id
from integrations.domain.surge import OVER, RAISED, TASK, Counted, Limits, way_out
from integrations.domain.verdict import Meaning

_ACTOR: Final = "RefreshWorkflow"
_LOCK_CLASS: Final = 0x73757267
"""The first half of the advisory locks; the second is the provider. `pg_locks` shows both."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A provider whose refreshes are counted."""

    provider_id: str
    name: str
    """For people."""
    fix: str
    """What repairs our registration there, by its catalog entry."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A terminal answer to a refresh, without its secrets."""

    connection_id: UUID
    version: int
    meaning: Meaning
    """OWNER_MUST_ACT or OPERATOR_MUST_ACT."""
    rule: str
    answer: str


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
    counting = {"provider": at.provider_id, "window": at.limits.window, "ids": ids}
    known = (await session.execute(_TRIED, counting)).scalar_one()
    if not refused and not known:
        return frozenset()
    await _lock(session, at.provider_id, refused)
    if refused:
        await _note(session, at, refused)
    task = await tasks.of_provider(session, at.provider_id, TASK)
    if task is None or not await _goes_on(session, at, task, await count(session, at)):
        return frozenset()
    return await _hold(session, refused)


async def suspected(session: AsyncSession, at: Watched, refused: Refusal) -> str | None:
    """Ask before a confirmed refusal is acted on, with the connection locked. None: act on it.

    Otherwise why not, in words: it is one of a surge and held back. The first of a surge calls the operators, once.
    """
    await _lock(session, at.provider_id, [refused])
    await _note(session, at, [refused])
    counted = await count(session, at)
    task = await tasks.of_provider(session, at.provider_id, TASK)
    if task is None and counted.is_surge(at.limits):
        task = await _raise(session, at, counted)
    if task is None or not await _goes_on(session, at, task, counted):
        return None
    held = await _hold(session, [refused])
    return f"held back, one of a surge: {counted.words(at.limits)}" if held else None


async def count(session: AsyncSession, at: Watched) -> Counted:
    """The provider's connections as a surge is judged by them."""
    asked = {"provider": at.provider_id, "window": at.limits.window, "least": at.limits.connections}
    return Counted(**(await session.execute(_COUNT, asked)).mappings().one())


async def release(session: AsyncSession, provider_id: str, *, by: str, reason: str) -> list[UUID] | None:
    """By a person's word what is held back at a provider may be acted on, when it is refused again.

    Their connections. None when there is no surge. Only these versions are released: what else is refused is counted.
    """
    await _lock(session, provider_id, [])
    task = await tasks.of_provider(session, provider_id, TASK)
    if task is None:
        return None
    released = await session.scalars(
        update(RefreshRefusal)
        .where(RefreshRefusal.provider_id == provider_id, RefreshRefusal.held_at.is_not(None))
        .values(held_at=None, released_at=func.now())
        .returning(RefreshRefusal.connection_id)
    )
    ids = list(released.all())
    await _close(session, task, by=by, reason=reason)
    return ids


async def _lock(session: AsyncSession, provider_id: str, refused: Sequence[Refusal]) -> None:
    """In a statement of its own, so that the next one sees what was committed while this one waited."""
    # A refusal's row refers to its connection's: that is locked first, whoever inserts.
    ids = [each.connection_id for each in refused]
    await session.execute(
        select(Connection.id).where(Connection.id.in_(ids)).order_by(Connection.id).with_for_update(key_share=True)
    )
    await session.execute(_LOCK, {"class": _LOCK_CLASS, "provider": provider_id})


async def _note(session: AsyncSession, at: Watched, refused: Sequence[Refusal]) -> None:
    """One row for a connection, however often it is refused."""
    noted = insert(RefreshRefusal).values(
        [
            {
                "connection_id": each.connection_id,
                "provider_id": at.provider_id,
                "version": each.version,
                "meaning": each.meaning,
                "rule": each.rule,
                "answer": each.answer,
            }
            for each in refused
        ]
    )
    same = RefreshRefusal.version == noted.excluded.version
    await session.execute(
        noted.on_conflict_do_update(
            index_elements=[RefreshRefusal.connection_id],
            set_={
                **{name: noted.excluded[name] for name in ("version", "meaning", "rule", "answer", "at")},
                # What was said of one version says nothing of the next.
                **{name: case((same, getattr(RefreshRefusal, name))) for name in ("held_at", "released_at")},
            },
        )
    )


async def _hold(session: AsyncSession, refused: Sequence[Refusal]) -> frozenset[UUID]:
    """Those that are held back by now: all but what a person released."""
    held = await session.scalars(
        update(RefreshRefusal)
        .where(
            RefreshRefusal.connection_id.in_([each.connection_id for each in refused]),
            RefreshRefusal.released_at.is_(None),
        )
        .values(held_at=func.coalesce(RefreshRefusal.held_at, func.now()))
        .returning(RefreshRefusal.connection_id)
    )
    return frozenset(held.all())


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


_LOCK: Final = text("SELECT pg_advisory_xact_lock(:class, hashtext(:provider))")
# Counting is one round trip, and cleaning up after it needs nobody else.
_TRIED: Final = text(f"""
WITH old AS (
  DELETE FROM service_refresh_tries WHERE id IN (
    SELECT id FROM service_refresh_tries WHERE provider_id = :provider AND at < now() - cast(:window AS interval)
    ORDER BY at LIMIT 2 FOR UPDATE SKIP LOCKED)
), fresh AS (
  INSERT INTO service_refresh_tries (provider_id, connection_ids) VALUES (:provider, cast(:ids AS uuid[]))
)
SELECT EXISTS (SELECT FROM service_operator_tasks
  WHERE provider_id = :provider AND kind = '{TASK}' AND status <> 'closed')
""")  # noqa: S608 - our own word
# A credential that is newer than the refused one has answered the question; where none is active, nobody asks it. All
# that was tried is counted only where enough was refused: below that it decides nothing.
_COUNT: Final = text("""
WITH suspect AS MATERIALIZED (
  SELECT refusal.connection_id, refusal.meaning, refusal.answer
  FROM service_refresh_refusals AS refusal
  JOIN service_credentials AS credential ON credential.connection_id = refusal.connection_id
    AND credential.state = 'active' AND credential.version = refusal.version
  WHERE refusal.provider_id = :provider AND refusal.released_at IS NULL
    AND (refusal.at > now() - cast(:window AS interval) OR refusal.held_at IS NOT NULL)
), commonest AS (
  SELECT answer, meaning, count(*) AS alike FROM suspect GROUP BY 1, 2 ORDER BY 3 DESC, 1 LIMIT 1
)
SELECT refused,
  CASE WHEN refused < :least THEN 0 ELSE (
    SELECT count(*) FROM (
      SELECT connection_id FROM suspect UNION SELECT unnest(connection_ids) FROM service_refresh_tries
      WHERE provider_id = :provider AND at > now() - cast(:window AS interval)
    ) AS each
  ) END AS tried,
  coalesce(answer, '') AS cause, coalesce(alike, 0) AS alike, coalesce(meaning, 'operator_must_act') AS meaning
FROM (SELECT count(*) AS refused FROM suspect) AS counted LEFT JOIN commonest ON true
""")
