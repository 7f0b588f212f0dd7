"""The bound of `outbox`: a plain asyncpg loop over tables of the same shape, one statement for a batch.

The same effects, indexes and settles; no holds, no locks, no watermarks, no order but the claim's. One connection for
each dispatcher, statements prepared once.
"""

import asyncio
from typing import Any, Final

import asyncpg

TABLES: Final = (
    "service_lifecycle_outbox",
    "service_projector_ledger",
    "service_activity_entries",
    "service_notification_requests",
)
SCHEMA: Final = (
    "CREATE SCHEMA IF NOT EXISTS bench; "
    + "".join(f"CREATE TABLE IF NOT EXISTS bench.{table} (LIKE public.{table} INCLUDING ALL);" for table in TABLES)
    + "ALTER TABLE bench.service_lifecycle_outbox SET (fillfactor = 60);"
    + "ALTER TABLE bench.service_projector_ledger SET (fillfactor = 70)"
)
# No join, and no scan of a table: what the product found to be fast, its bound may have as well.
_PLANS: Final = {"jit": "off", "enable_seqscan": "off", "enable_bitmapscan": "off"}
_BATCH: Final = """
WITH due AS MATERIALIZED (
  SELECT ctid AS place, event_id, id, name, provider_id, scope_type, scope_id, connection_id, order_key, seq, source,
    payload, occurred_at
  FROM bench.service_lifecycle_outbox WHERE status = 'pending' AND part = $1 ORDER BY id LIMIT {size}
), ledger AS (
  INSERT INTO bench.service_projector_ledger (event_id, projector, position)
  SELECT event_id, 'activity', id FROM due UNION ALL SELECT event_id, 'notification', id FROM due
), activity AS (
  INSERT INTO bench.service_activity_entries (event_id, name, provider_id, scope_type, scope_id, connection_id,
    order_key, seq, source, payload, occurred_at)
  SELECT event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, seq, source, payload, occurred_at
  FROM due ORDER BY id
), notification AS (
  INSERT INTO bench.service_notification_requests (event_id, name, order_key, seq)
  SELECT event_id, name, order_key, seq FROM due ORDER BY id
), settled AS (
  UPDATE bench.service_lifecycle_outbox SET status = 'delivered' WHERE ctid = ANY(ARRAY(SELECT place FROM due))
)
SELECT count(*) FROM due
"""


async def drain(dsn: str, *, connections: int, size: int, partitions: int) -> None:
    """Until nothing is pending."""
    opened = [await asyncpg.connect(dsn, server_settings=_PLANS) for _ in range(connections)]
    try:
        await asyncio.gather(
            *(_drain(each, range(number, partitions, connections), size) for number, each in enumerate(opened))
        )
    finally:
        for each in opened:
            await each.close()


async def _drain(connection: "asyncpg.Connection[Any]", parts: range, size: int) -> None:
    batch = await connection.prepare(_BATCH.format(size=size))
    left = list(parts)
    while left:
        left = [part for part in left if await batch.fetchval(part) == size]
