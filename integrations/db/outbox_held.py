"""What was held back behind a projection in trouble, once that is settled: delivered in order, and the hold removed.

The partition's owner does this between its batches, so nothing new is held back meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.dedicated import transaction
from integrations.db.outbox_isolation import Isolation
from integrations.db.outbox_trouble import settle_events
from integrations.db.projectors import DUE, Projector
from integrations.domain.ledger import WHOLE

_KEYS: Final = 500
"""Holds that are ended in one go."""
_RELEASED: Final = text("""
SELECT destination, array_agg(order_key ORDER BY since) AS keys FROM (
  SELECT destination, order_key, since FROM service_ledger_holds AS hold
  WHERE ledger = 'outbox' AND part = cast(:part AS smallint) AND released_at IS NOT NULL
    AND destination = ANY(:names)
    -- What waits for a whole destination goes first: nothing of one order key may overtake it.
    AND (order_key = '*' OR (SELECT true FROM service_ledger_holds AS whole WHERE whole.ledger = 'outbox'
      AND whole.part = hold.part AND whole.destination = hold.destination AND whole.order_key = '*') IS NULL)
  ORDER BY since LIMIT :limit
) AS released GROUP BY destination
""")
_BEHIND: Final = """
SELECT event_id FROM service_projector_ledger AS item
WHERE status = 'held' AND projector = :projector AND part = cast(:part AS smallint) AND {which}
ORDER BY position LIMIT {limit}
"""
_OF_KEYS: Final = "item.order_key = ANY(:keys)"
_OF_NO_OTHER: Final = """NOT EXISTS (SELECT FROM service_ledger_holds AS hold WHERE hold.ledger = 'outbox'
  AND hold.part = item.part AND hold.destination = item.projector AND hold.order_key = item.order_key)"""
_PROJECT: Final = """
WITH item AS (
  UPDATE service_projector_ledger AS item SET status = 'delivered', settled_at = now()
  WHERE event_id = ANY(:ids) AND projector = :projector AND status = 'held'
    -- Behind one that has just failed it waits on.
    AND NOT EXISTS (SELECT FROM service_ledger_holds AS hold WHERE hold.ledger = 'outbox' AND hold.part = item.part
      AND hold.destination = item.projector AND hold.order_key IN (item.order_key, '*') AND hold.released_at IS NULL)
  RETURNING event_id
), due AS MATERIALIZED (
  SELECT {due}, false AS out_of_order FROM service_lifecycle_outbox JOIN item USING (event_id)
), projected AS (
  {insert}
)
SELECT count(*) FROM due
"""
_END: Final = """
DELETE FROM service_ledger_holds AS ended
WHERE ledger = 'outbox' AND part = cast(:part AS smallint) AND destination = :projector AND order_key = ANY(:keys)
  -- A value and no EXISTS: that the planner would join, by a walk through all that is held.
  AND released_at IS NOT NULL AND (SELECT true FROM service_projector_ledger AS item
    WHERE status = 'held' AND projector = ended.destination AND item.part = ended.part AND {which} LIMIT 1) IS NULL
"""
_ITS_KEY: Final = "item.order_key = ended.order_key"


@dataclass(frozen=True)
class Ended:
    """Holds of one partition and projector whose items are settled: of order keys, or the one of all of them."""

    part: int
    projector: str
    keys: list[str]

    @property
    def whole(self) -> bool:
        return self.keys == [WHOLE]

    @property
    def named(self) -> dict[str, object]:
        return {"part": self.part, "projector": self.projector, "keys": self.keys}


async def ended(connection: AsyncConnection, part: int, projectors: Sequence[str]) -> list[Ended]:
    """What to go on with. A destination that failed as a whole comes first, and alone."""
    rows = await connection.execute(_RELEASED, {"part": part, "names": list(projectors), "limit": _KEYS})
    return [Ended(part, projector, [WHOLE] if WHOLE in keys else keys) for projector, keys in rows]


async def next_one(connection: AsyncConnection, part: int, projectors: Sequence[str]) -> UUID | None:
    """The event that would be tried first, alone."""
    for hold in await ended(connection, part, projectors):
        if ids := await _behind(connection, hold, 1):
            return ids[0]
    return None


async def go_on(
    connection: AsyncConnection, hold: Ended, projector: Projector, isolation: Isolation, limit: int
) -> int:
    """Deliver the next of what was kept back, end the holds behind which nothing is left. How much was touched."""
    project = text(_PROJECT.format(due=DUE, insert=projector("due")))

    async def attempt(these: Sequence[UUID]) -> int:
        moved = await connection.execute(project, {"ids": list(these), "projector": hold.projector})
        return int(moved.scalar_one())

    end = _END.format(which=_OF_NO_OTHER if hold.whole else _ITS_KEY)
    async with transaction(connection):
        ids = await _behind(connection, hold, limit)
        await isolation.project(hold.projector, ids, attempt)
        await settle_events(connection, ids)
        gone = await connection.execute(text(end), hold.named)
    return len(ids) + gone.rowcount


async def _behind(connection: AsyncConnection, hold: Ended, limit: int) -> Sequence[UUID]:
    """The next of what was kept back."""
    sql = text(_BEHIND.format(which=_OF_NO_OTHER if hold.whole else _OF_KEYS, limit=limit))
    named = {name: value for name, value in hold.named.items() if name != "keys" or not hold.whole}
    return (await connection.execute(sql, named)).scalars().all()
