"""How the outbox stood at moments: two of them make a rate."""

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from integrations.domain.outbox_health import Rates

# A rolled back event leaves a gap in the sequence: of a difference over a minute that is nothing.
_NOW: Final = """
SELECT 'outbox' AS ledger, clock_timestamp() AS at,
  (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM service_lifecycle_outbox_id_seq) AS arrived,
  (SELECT coalesce(sum(items), 0) FROM service_dispatchers WHERE ledger = 'outbox') AS settled
"""
_TAKE: Final = text(f"""
INSERT INTO service_ledger_samples (ledger, at, arrived, settled) {_NOW} ON CONFLICT DO NOTHING
""")
_FORGET: Final = text("""
DELETE FROM service_ledger_samples WHERE ledger = 'outbox' AND at < clock_timestamp() - interval '1 hour'
""")
# The one nearest to a minute ago: with nobody to take any, that is an old one.
_RATES: Final = text(f"""
WITH present AS ({_NOW}), past AS (
  SELECT at, arrived, settled FROM service_ledger_samples
  WHERE ledger = 'outbox' AND at < clock_timestamp() - interval '5 seconds'
  ORDER BY abs(extract(epoch FROM clock_timestamp() - at) - 60)
  LIMIT 1
)
SELECT extract(epoch FROM present.at - past.at)::float AS seconds, present.arrived - past.arrived AS arrived,
  (present.settled - past.settled)::bigint AS settled
FROM present, past
""")  # noqa: S608 - ours


async def take(connection: AsyncConnection) -> None:
    """Write a sample, and forget those older than an hour. Two statements, each of which may stand alone."""
    await connection.execute(_TAKE)
    await connection.execute(_FORGET)


async def rates(session: AsyncSession) -> Rates | None:
    """Over about the last minute; over longer when nobody took a sample since. None without any sample."""
    found = (await session.execute(_RATES)).one_or_none()
    if found is None:
        return None
    seconds = found.seconds
    return Rates(seconds=seconds, arrived=max(0.0, found.arrived / seconds), settled=max(0.0, found.settled / seconds))
