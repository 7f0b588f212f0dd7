"""How far a replay may go by now, and how far it is. The same for every ledger.

A plan's row says what is released, and at which pace from where: `windows` turns that into what a dispatcher may take.
Each change is guarded by the status that it comes from, so that it is safe to repeat.
"""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from integrations.domain.replay import Pace, Release, Seen, Window

OF_PART: Final = "plan_id = :plan_id AND part = cast(:part AS smallint)"
_NOTE: Final = text(f"""
UPDATE service_replay_items AS item SET outcome = told.outcome, why = told.why
FROM unnest(cast(:ns AS bigint[]), cast(:outcomes AS text[]), cast(:whys AS text[])) AS told (n, outcome, why)
WHERE {OF_PART} AND item.n = told.n
""")  # noqa: S608 - ours
_NEXT: Final = text(f"""
SELECT item_id FROM service_replay_items WHERE {OF_PART}
  AND n > (SELECT upto FROM service_replay_progress WHERE {OF_PART}) ORDER BY n LIMIT 1
""")  # noqa: S608 - ours
_FAR: Final = """
CROSS JOIN LATERAL (
  SELECT max(upto) AS furthest, coalesce(sum(dead), 0) AS dead
  FROM service_replay_progress AS progress WHERE progress.plan_id = plan.id
) AS far
"""
# After a standstill the pace has run ahead of what was done: it begins anew then, a second behind, and nothing that
# was missed is caught up with at once.
_LATE: Final = "pace.allowed - far.furthest > 2 * plan.rate"
_PACE: Final = """
CROSS JOIN LATERAL (
  SELECT least(plan.released, plan.paced_from + cast(floor(plan.rate * extract(
    epoch FROM clock_timestamp() - plan.paced_since)) AS bigint)) AS allowed
) AS pace
"""
_WINDOWS: Final = text(f"""
SELECT plan.id AS plan_id, progress.part, bound.upto, {_LATE} AS late
FROM service_replay_plans AS plan {_FAR} {_PACE}
CROSS JOIN LATERAL (
  SELECT CASE WHEN {_LATE} THEN far.furthest + plan.rate ELSE pace.allowed END AS upto
) AS bound
JOIN service_replay_progress AS progress ON progress.plan_id = plan.id
WHERE plan.ledger = :ledger AND plan.status = 'running' AND far.dead <= plan.max_failures
  AND progress.part = ANY(cast(:parts AS smallint[]))
  -- A value and no EXISTS: that the planner would join, by a walk through all items of the plan.
  AND (SELECT true FROM service_replay_items AS item WHERE item.plan_id = plan.id AND item.part = progress.part
    AND item.n > progress.upto AND item.n <= bound.upto LIMIT 1)
ORDER BY plan.started_at, plan.id, progress.part
""")  # noqa: S608 - ours
_BEGIN_ANEW: Final = text(f"""
UPDATE service_replay_plans AS paced SET paced_from = far.furthest,
  paced_since = clock_timestamp() - interval '1 second'
FROM service_replay_plans AS plan {_FAR} {_PACE}
WHERE paced.id = plan.id AND plan.id = ANY(:plans) AND plan.status = 'running' AND {_LATE}
  AND paced.paced_since = plan.paced_since
""")  # noqa: S608 - ours
_FURTHEST: Final = "(SELECT max(upto) FROM service_replay_progress WHERE plan_id = id)"
_RELEASE: Final = text(f"""
UPDATE service_replay_plans SET released = :upto, rate = CASE WHEN rate = 0 THEN :rate ELSE rate END,
  paced_since = clock_timestamp(), paced_from = {_FURTHEST},
  max_failures = :failures + (SELECT sum(dead) FROM service_replay_progress WHERE plan_id = id)
WHERE id = :plan_id AND status IN ('running', 'paused') AND released < :upto
""")  # noqa: S608 - ours
_PAUSE: Final = text("UPDATE service_replay_plans SET status = 'paused' WHERE id = :plan_id AND status = 'running'")
_RESUME: Final = text(f"""
UPDATE service_replay_plans SET status = 'running', paced_since = clock_timestamp(), paced_from = {_FURTHEST}
WHERE id = :plan_id AND status = 'paused'
""")  # noqa: S608 - ours
_REPACE: Final = text(f"""
UPDATE service_replay_plans SET rate = :rate, paced_since = clock_timestamp(), paced_from = {_FURTHEST}
WHERE id = :plan_id AND status IN ('running', 'paused') AND rate <> :rate
""")  # noqa: S608 - ours
_SEEN: Final = text("""
SELECT plan.status, sum(delivered) AS delivered, sum(skipped) AS skipped, sum(dead) AS dead,
  sum(dead) > plan.max_failures AS exceeded
FROM service_replay_plans AS plan JOIN service_replay_progress AS progress ON progress.plan_id = plan.id
WHERE plan.id = :plan_id GROUP BY plan.id
""")


async def windows(connection: AsyncConnection, ledger: str, parts: Collection[int]) -> list[Window]:
    """What may be replayed in these partitions by now, the oldest replay first. Nothing where nothing is left to take.

    `connection` is a dispatcher's own: each statement is its own transaction.
    """
    found = (await connection.execute(_WINDOWS, {"ledger": ledger, "parts": sorted(parts)})).all()
    late = {row.plan_id for row in found if row.late}
    if late:
        await connection.execute(_BEGIN_ANEW, {"plans": list(late)})
    return [Window(row.plan_id, row.part, row.upto) for row in found]


async def next_one(connection: AsyncConnection, window: Window) -> UUID | None:
    """The item that a batch of one would take."""
    return (await connection.execute(_NEXT, {"plan_id": window.plan_id, "part": window.part})).scalar()


async def note(connection: AsyncConnection, plan_id: UUID, part: int, notes: Sequence[tuple[int, str, str]]) -> None:
    """Write down what did not simply go well: each item's number, outcome and why. In the caller's transaction."""
    if notes:
        ns, outcomes, whys = (list(column) for column in zip(*notes, strict=True))
        told = {"plan_id": plan_id, "part": part, "ns": ns, "outcomes": outcomes, "whys": whys}
        await connection.execute(_NOTE, told)


async def release(session: AsyncSession, wanted: Release) -> None:
    """Let the drain go on up to an item. What has failed before is not held against this stage.

    The pace that the row has stays: a person may have changed it while this was on its way.
    """
    await session.execute(_RELEASE, wanted.model_dump())


async def pause(session: AsyncSession, plan_id: UUID) -> None:
    await session.execute(_PAUSE, {"plan_id": plan_id})


async def resume(session: AsyncSession, plan_id: UUID) -> None:
    await session.execute(_RESUME, {"plan_id": plan_id})


async def repace(session: AsyncSession, pace: Pace) -> None:
    await session.execute(_REPACE, pace.model_dump())


async def seen(session: AsyncSession, plan_id: UUID) -> Seen:
    """How far a plan is. Its progress and its status are of the same moment."""
    row = (await session.execute(_SEEN, {"plan_id": plan_id})).one()
    return Seen.model_validate(row._asdict())
