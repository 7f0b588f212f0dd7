"""Lifecycle events in bulk, for the product's outbox or for the bound's."""

from dataclasses import dataclass
from typing import Any, Final

import asyncpg

_ADD: Final = """
INSERT INTO {schema}.service_lifecycle_outbox
  (event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, part, seq, payload)
SELECT gen_random_uuid(), {name}, 'provider-' || i % 9, 'org', 'tenant-' || i % 50, c, c::text,
  (('x' || left(md5(c::text), 7))::bit(28)::int) % 16, {offset} + i / {connections},
  jsonb_build_object('from', 'active', 'to', 'active', 'reason', 'the token was due', 'actor', 'RefreshWorkflow',
    'pad', repeat('x', 80))
FROM (SELECT i, md5(({which})::text)::uuid AS c FROM generate_series(0, {count} - 1) AS i) AS made
"""
_LAST: Final = "SELECT coalesce(max(seq), 0) + 1 FROM {schema}.service_lifecycle_outbox"


@dataclass(frozen=True)
class Kind:
    """Whose events, and which. `which` gives a connection's number for the event's number i, `name` its name."""

    connections: int = 10_000
    which: str = "i % 10000"
    name: str = "'connection.refreshed'"


ALL: Final = Kind()


async def add_events(database: "asyncpg.Connection[Any]", count: int, kind: Kind = ALL, schema: str = "public") -> None:
    """Committed together: whoever drains sees all of them at once."""
    offset = await database.fetchval(_LAST.format(schema=schema))
    told = {"schema": schema, "offset": offset, "count": count}
    await database.execute(_ADD.format(**told, connections=kind.connections, which=kind.which, name=kind.name))
