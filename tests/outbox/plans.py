"""Dead projections, plans of them, and somebody who does the dispatcher's part."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import outbox_replay, replay, replay_plans
from integrations.db.ledger_tables import ReplayPlan
from integrations.db.projectors import PROJECTORS
from integrations.db.session import Sessions
from integrations.domain.filters import Filters
from integrations.domain.ledger import Failure
from integrations.domain.replay import Begun, Planned, Release, ReplayRequest, Seen
from tests.factories import stored
from tests.outbox.events import added

CAUSE = Failure.of("Raise", "the table is full")
FAST = 100_000
_DIE = """
WITH item AS (
  INSERT INTO service_projector_ledger
    (event_id, projector, position, status, part, order_key, attempts, cause, fingerprint, error, failed_at, history)
  SELECT event_id, projector, id, 'dead', part, order_key, 12, cast(:cause AS text), cast(:fingerprint AS text),
    cast(:error AS text), now(),
    jsonb_build_array(jsonb_build_object('at', now(), 'attempt', 12, 'error', cast(:error AS text)))
  FROM service_lifecycle_outbox CROSS JOIN unnest(cast(:projectors AS text[])) AS projector
  WHERE event_id = ANY(:ids)
), fine AS (
  INSERT INTO service_projector_ledger (event_id, projector, position)
  SELECT event_id, projector, id FROM service_lifecycle_outbox
  CROSS JOIN (SELECT unnest(cast(:all AS text[])) EXCEPT SELECT unnest(cast(:projectors AS text[]))) AS p (projector)
  WHERE event_id = ANY(:ids)
)
UPDATE service_lifecycle_outbox SET status =
  CASE WHEN cardinality(cast(:projectors AS text[])) > 0 THEN 'dead' ELSE 'delivered' END
WHERE event_id = ANY(:ids) RETURNING 1
"""


async def die(
    engine: AsyncEngine, ids: Sequence[UUID], projectors: Iterable[str] = PROJECTORS, failure: Failure = CAUSE
) -> None:
    """Let events be dead at these projectors, and delivered at the others."""
    async with engine.begin() as connection:
        await _die(connection, ids, projectors, failure)


async def add_dead(
    engine: AsyncEngine, count: int, projectors: Iterable[str] = PROJECTORS, failure: Failure = CAUSE, **more: Any
) -> list[UUID]:
    """In one transaction: a dispatcher that is at work here has no part in it."""
    async with engine.begin() as connection:
        ids = await added(connection, count, **more)
        await _die(connection, ids, projectors, failure)
    return ids


async def _die(connection: AsyncConnection, ids: Sequence[UUID], projectors: Iterable[str], failure: Failure) -> None:
    told = {"cause": failure.cause, "fingerprint": failure.fingerprint, "error": failure.error}
    given = {"ids": list(ids), "projectors": list(projectors), "all": list(PROJECTORS)}
    await connection.execute(text(_DIE), {**given, **told})


async def made(sessions: Sessions, ledger: str = "outbox", **filters: Any) -> Planned:
    async with sessions.begin() as session:
        return await replay_plans.make(session, ledger, Filters(**filters), by="ada", reason="fixed")


async def begun(sessions: Sessions, plan: Planned) -> Begun:
    request = ReplayRequest(plan_id=plan.plan_id, ledger=plan.ledger, by="ada", reason="fixed")
    async with sessions.begin() as session:
        return await replay_plans.begin(session, request)


async def released(sessions: Sessions, plan: Planned, upto: int = 0, *, rate: int = FAST, failures: int = 0) -> None:
    """Begun, and let go up to an item, or as a whole."""
    await begun(sessions, plan)
    wanted = Release(plan_id=plan.plan_id, upto=upto or plan.count, rate=rate, failures=failures)
    async with sessions.begin() as session:
        await replay.release(session, wanted)
    # As if it had been long ago: a test has no time for the pace.
    if rate == FAST:
        await earlier(sessions, plan, 1)


async def earlier(sessions: Sessions, plan: Planned, seconds: float) -> None:
    """Let its pace have begun so much earlier."""
    sql = "UPDATE service_replay_plans SET paced_since = paced_since - make_interval(secs => :seconds) WHERE id = :id"
    async with sessions.begin() as session:
        await session.execute(text(sql), {"seconds": seconds, "id": plan.plan_id})


async def drive(connection: AsyncConnection, limit: int = 1000, parts: Iterable[int] = range(16)) -> int:
    """Replay what windows allow, as a dispatcher does. How many items have an outcome more."""
    taken = 0
    while True:
        open_now = await replay.windows(connection, "outbox", list(parts))
        moved = [await outbox_replay.batch(connection, window, limit, PROJECTORS) for window in open_now]
        taken += sum(moved)
        if not sum(moved):
            return taken


async def progress(sessions: Sessions, plan: Planned) -> Seen:
    async with sessions.begin() as session:
        return await replay.seen(session, plan.plan_id)


async def row_of(sessions: Sessions, plan: Planned) -> ReplayPlan:
    return await stored(sessions, ReplayPlan, plan.plan_id)
