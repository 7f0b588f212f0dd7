"""Forgetting webhooks: what is settled soon, what was given up later, what still waits never.

A delivery's id says when it was received, so the old ones are one end of the primary key. Rows are removed by their
places: joined to their keys, so many would have the whole table read.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.domain.ids import ids_before

_SETTLED: Final = text("""
DELETE FROM service_webhook_deliveries WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM service_webhook_deliveries
  WHERE id < :before AND status IN ('delivered', 'coalesced') AND settled_at < now() - cast(:kept AS interval)
  ORDER BY id LIMIT :most
))
""")
_DEAD: Final = text("""
DELETE FROM service_webhook_deliveries WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM service_webhook_deliveries
  WHERE id < :before AND status = 'dead' AND failed_at < now() - cast(:kept AS interval)
  ORDER BY id LIMIT :most
))
""")
_REPEATS: Final = text("""
DELETE FROM service_webhook_repeats WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM service_webhook_repeats WHERE at < now() - cast(:kept AS interval) ORDER BY at LIMIT :most
))
""")
_REFUSALS: Final = text("""
DELETE FROM service_webhook_refusals WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM service_webhook_refusals WHERE hour < now() - cast(:kept AS interval) ORDER BY hour LIMIT :most
))
""")


async def forget_settled(session: AsyncSession, kept: timedelta, most: int) -> int:
    """Remove at most so many that were received and settled longer ago than `kept`. How many it removed."""
    return await _removed(session, _SETTLED, _before(kept) | {"kept": kept, "most": most})


async def forget_dead(session: AsyncSession, kept: timedelta, most: int) -> int:
    """Remove at most so many that are dead and last failed longer ago than `kept`. How many it removed."""
    return await _removed(session, _DEAD, _before(kept) | {"kept": kept, "most": most})


async def forget_repeats(session: AsyncSession, kept: timedelta, most: int) -> int:
    return await _removed(session, _REPEATS, {"kept": kept, "most": most})


async def forget_refusals(session: AsyncSession, kept: timedelta, most: int) -> int:
    return await _removed(session, _REFUSALS, {"kept": kept, "most": most})


def _before(kept: timedelta) -> dict[str, Any]:
    return {"before": ids_before(datetime.now(UTC) - kept)}


async def _removed(session: AsyncSession, statement: Any, told: dict[str, Any]) -> int:
    return (await session.execute(statement, told)).rowcount  # type: ignore[attr-defined, no-any-return]
