"""Lifecycle events in bulk, for the product's outbox or for the bound's."""

from typing import Any, Final

import asyncpg

CONNECTIONS: Final = 10_000
_ADD: Final = """
INSERT INTO {schema}.service_lifecycle_outbox
  (event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, part, seq, payload)
SELECT gen_random_uuid(), 'connection.refreshed', 'provider-' || i % 9, 'org', 'tenant-' || i % 50, c, c::text,
  (('x' || left(md5(c::text), 7))::bit(28)::int) % 16, {offset} + i / {connections},
  jsonb_build_object('from', 'active', 'to', 'active', 'reason', 'the token was due', 'actor', 'RefreshWorkflow',
    'pad', repeat('x', 80))
FROM (SELECT i, md5((i % {connections})::text)::uuid AS c FROM generate_series(0, {count} - 1) AS i) AS made
"""
_LAST: Final = "SELECT coalesce(max(seq), 0) + 1 FROM {schema}.service_lifecycle_outbox"


async def add_events(database: "asyncpg.Connection[Any]", schema: str, count: int) -> None:
    """Committed together: whoever drains sees all of them at once."""
    offset = await database.fetchval(_LAST.format(schema=schema))
    await database.execute(_ADD.format(schema=schema, offset=offset, connections=CONNECTIONS, count=count))
