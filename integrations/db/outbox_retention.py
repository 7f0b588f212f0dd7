"""Forgetting events that are delivered everywhere, with their ledger rows and the messages that were sent of them.

No index of the outbox has a time in it, and one more would cost every event. So the table is walked by its blocks: a
slice each minute, which the clock chooses, until all of it was looked at and it begins anew. What people read of an
event (its activity entry) stays, and is counted as forgotten, so that ledger and table can still be compared.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

FORGOTTEN: Final = "outbox forgotten"
"""The ledger whose watermark counts what is forgotten of each projector."""
_BLOCKS: Final = 2000
"""Of a slice: 16 MB, some forty thousand events."""
_SLICE: Final = text(
    """
SELECT greatest(1, ceil(pg_relation_size('service_lifecycle_outbox')
    / cast(current_setting('block_size') AS numeric) / :blocks)) AS slices,
  floor(extract(epoch FROM now()) / 60) AS minute
"""
)
# Whatever may still be tried, or be sent of it, keeps an event. Values and no EXISTS: those the planner would join, by
# a walk through whole tables.
_FORGET: Final = text("""
WITH old AS MATERIALIZED (
  SELECT event_id, id, occurred_at FROM service_lifecycle_outbox AS event
  WHERE ctid >= cast(cast(:first AS text) AS tid) AND ctid < cast(cast(:last AS text) AS tid)
    AND status = 'delivered' AND occurred_at < now() - cast(:kept AS interval)
    AND (SELECT max(settled_at) FROM service_projector_ledger AS item WHERE item.event_id = event.event_id)
      < now() - cast(:kept AS interval)
    AND (SELECT status FROM service_notification_requests AS request WHERE request.event_id = event.event_id)
      IS DISTINCT FROM 'pending'
    AND (SELECT true FROM service_notification_dispatches AS item
      WHERE item.event_id = event.event_id AND status NOT IN ('delivered', 'dropped') LIMIT 1) IS NULL
  LIMIT :most
), messages AS (
  DELETE FROM service_notification_dispatches WHERE event_id = ANY (ARRAY(SELECT event_id FROM old))
), requests AS (
  DELETE FROM service_notification_requests WHERE event_id = ANY (ARRAY(SELECT event_id FROM old))
), items AS (
  DELETE FROM service_projector_ledger WHERE event_id = ANY (ARRAY(SELECT event_id FROM old)) RETURNING projector
), counted AS (
  INSERT INTO service_ledger_watermarks AS mark (ledger, part, destination, position, items, at)
  SELECT :ledger, 0, projector, (SELECT max(id) FROM old), count(*), (SELECT max(occurred_at) FROM old)
  FROM items GROUP BY projector
  ON CONFLICT (ledger, part, destination) DO UPDATE SET position = greatest(mark.position, excluded.position),
    items = mark.items + excluded.items, at = greatest(mark.at, excluded.at)
)
DELETE FROM service_lifecycle_outbox WHERE event_id = ANY (ARRAY(SELECT event_id FROM old))
""")


@dataclass(frozen=True, slots=True)
class Slice:
    """Blocks of the table, from the first up to and without the last."""

    first: int
    last: int


async def slice_of_now(session: AsyncSession) -> Slice:
    """The slice that is looked at in this minute."""
    row = (await session.execute(_SLICE, {"blocks": _BLOCKS})).one()
    first = int(row.minute) % int(row.slices) * _BLOCKS
    return Slice(first, first + _BLOCKS)


async def forget(session: AsyncSession, within: Slice, kept: timedelta, most: int) -> int:
    """Remove at most so many events of a slice that occurred, and were settled, longer ago than `kept`. How many."""
    told = {"first": f"({within.first},0)", "last": f"({within.last},0)"}
    gone = await session.execute(_FORGET, told | {"kept": kept, "most": most, "ledger": FORGOTTEN})
    return gone.rowcount  # type: ignore[attr-defined, no-any-return]
