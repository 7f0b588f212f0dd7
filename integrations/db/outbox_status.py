"""The outbox at a glance: what waits, what is in trouble, who drains. Nothing here reads what is delivered."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import samples
from integrations.db.in_time import in_time
from integrations.db.outbox_dispatchers import dispatchers
from integrations.db.projectors import PROJECTORS
from integrations.db.session import Sessions
from integrations.domain.ledger import PARTITIONS, WHOLE
from integrations.domain.outbox_page import Page, Projection, Stuck

# One step down the partial index for each partition: the table is never scanned, and delivered events are not met.
_OLDEST: Final = text(f"""
SELECT part, id, occurred_at FROM generate_series(0, {PARTITIONS - 1}) AS part CROSS JOIN LATERAL (
  SELECT id, occurred_at FROM service_lifecycle_outbox AS event
  WHERE event.status = 'pending' AND event.part = part.part::smallint ORDER BY event.id LIMIT 1
) AS first
""")  # noqa: S608 - ours
_PENDING: Final = text("SELECT count(*) FROM service_lifecycle_outbox WHERE status = 'pending'")
# Each of the three has a partial index of its own.
_AMOUNTS: Final = text("""
SELECT projector, 'held' AS status, count(*) AS amount, NULL::timestamptz AS since
  FROM service_projector_ledger WHERE status = 'held' GROUP BY projector
UNION ALL SELECT projector, 'retrying', count(*), NULL
  FROM service_projector_ledger WHERE status = 'retrying' GROUP BY projector
UNION ALL SELECT projector, 'dead', count(*), min(failed_at)
  FROM service_projector_ledger WHERE status = 'dead' GROUP BY projector
""")
_HOLDS: Final = text(f"""
SELECT DISTINCT ON (destination) destination AS projector, since,
  bool_or(order_key = '{WHOLE}') OVER (PARTITION BY destination) AS whole,
  (SELECT cause FROM service_projector_ledger AS item
    WHERE item.event_id = hold.item_id AND item.projector = hold.destination) AS cause
FROM service_ledger_holds AS hold WHERE ledger = 'outbox' AND released_at IS NULL
ORDER BY destination, since
""")  # noqa: S608 - ours
_FIRST_BEHIND: Final = text(f"""
SELECT projector, position, occurred_at FROM (
  SELECT DISTINCT ON (projector) projector, position, event_id FROM (
    SELECT projector, position, event_id
      FROM unnest(cast(:projectors AS text[])) AS projector CROSS JOIN generate_series(0, {PARTITIONS - 1}) AS part
      CROSS JOIN LATERAL (
        SELECT position, event_id FROM service_projector_ledger AS item
        WHERE status = 'held' AND item.projector = projector.projector AND item.part = part.part::smallint
        ORDER BY position LIMIT 1) AS held
    UNION ALL SELECT projector, position, event_id FROM service_projector_ledger WHERE status = 'retrying'
  ) AS behind ORDER BY projector, position
) AS first JOIN service_lifecycle_outbox USING (event_id)
""")  # noqa: S608 - ours
_MARKS: Final = text("""
SELECT destination AS projector, max(position) AS position, max(at) AS moved_at FROM service_ledger_watermarks
WHERE ledger = 'outbox' GROUP BY destination
""")
_STUCK: Final = text("""
SELECT
  (SELECT count(*) FROM service_projector_ledger WHERE status = 'retrying' AND lease_until < now()) AS retrying,
  (SELECT count(*) FROM service_ledger_holds
    WHERE ledger = 'outbox' AND released_at < now() - interval '30 seconds') AS holds
""")


async def page(sessions: Sessions, projectors: Collection[str] = tuple(PROJECTORS)) -> Page:
    """All of it but what takes every row to be counted (`outbox_counts`)."""
    async with sessions.begin() as session:
        at = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
        oldest = (await session.execute(_OLDEST)).all()
        found = await dispatchers(session)
        rates = await samples.rates(session)
        stuck = (await session.execute(_STUCK)).one()
    pending = await in_time(sessions, _PENDING)
    amount = None if pending is None else int(pending[0][0])
    first = min(((row.id, row.occurred_at) for row in oldest), default=None)
    return Page(
        at=at,
        pending=amount,
        oldest={row.part: row.occurred_at for row in oldest},
        rates=rates,
        projections=await _projections(sessions, projectors, amount, first),
        stuck=Stuck(retrying=stuck.retrying, holds=stuck.holds),
        **found,
    )


async def _projections(
    sessions: Sessions, projectors: Collection[str], pending: int | None, first: tuple[int, datetime] | None
) -> list[Projection]:
    """Each projector with a line in the code or with trouble. `first`: the oldest pending event, behind for all."""
    amounts = await in_time(sessions, _AMOUNTS)
    async with sessions.begin() as session:
        holds = {row.projector: row for row in await session.execute(_HOLDS)}
        marks = {row.projector: row for row in await session.execute(_MARKS)}
        behind = await _first_behind(session, projectors)
    counted = {(row.projector, row.status): row for row in amounts or []}
    names = [*projectors, *sorted({name for name, _ in counted} - set(projectors))]
    found = []
    for name in names:
        held, retrying, dead = (counted.get((name, status)) for status in ("held", "retrying", "dead"))
        many = {"held": held, "retrying": retrying, "dead": dead}
        told = {key: (row.amount if row else 0) if amounts is not None else None for key, row in many.items()}
        todo = [pending, told["held"], told["retrying"]]
        hold, mark = holds.get(name), marks.get(name)
        starts = min((each for each in (first, behind.get(name)) if each), default=None)
        found.append(
            Projection(
                projector=name,
                **told,
                waiting_since=hold.since if hold else None,
                whole=bool(hold and hold.whole),
                cause=(hold.cause or "") if hold else "",
                dead_since=dead.since if dead else None,
                position=starts[0] - 1 if starts else mark.position if mark else None,
                moved_at=mark.moved_at if mark else None,
                behind=None if None in todo else sum(each or 0 for each in todo),
                oldest=starts[1] if starts else None,
            )
        )
    return found


async def _first_behind(session: AsyncSession, projectors: Collection[str]) -> dict[str, tuple[int, datetime]]:
    rows = await session.execute(_FIRST_BEHIND, {"projectors": list(projectors)})
    return {row.projector: (row.position, row.occurred_at) for row in rows}
