"""Many events at once into the outbox, in a handful of statements: within the transaction whose changes they tell of.

As `outbox.enqueue` does it for one: numbered under the lock of what they stay in order with, and once for each id.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text

from integrations.db.session import Executor
from integrations.domain.ledger import partition_of
from integrations.domain.outbox import SOURCE, checked

_KNOWN: Final = text("SELECT event_id FROM service_lifecycle_outbox WHERE event_id = ANY(:ids)")
# In the order of their ids, as everybody who locks several.
_CONNECTIONS: Final = text("""
SELECT id, provider_id, scope_type, scope_id, seq FROM service_connections WHERE id = ANY(:ids)
ORDER BY id FOR NO KEY UPDATE
""")
_KEYS: Final = text("""
INSERT INTO service_order_keys AS key (order_key, seq)
SELECT order_key, 0 FROM unnest(cast(:keys AS text[])) AS order_key ORDER BY order_key
ON CONFLICT (order_key) DO UPDATE SET seq = key.seq RETURNING order_key, seq
""")
_ADD: Final = text("""
INSERT INTO service_lifecycle_outbox (event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, part,
  seq, source, payload)
SELECT event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, part, seq, :source,
  cast(payload AS jsonb)
FROM unnest(cast(:event_id AS uuid[]), cast(:name AS text[]), cast(:provider_id AS text[]), cast(:scope_type AS text[]),
  cast(:scope_id AS text[]), cast(:connection_id AS uuid[]), cast(:order_key AS text[]), cast(:part AS smallint[]),
  cast(:seq AS bigint[]), cast(:payload AS text[]))
  AS told (event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, part, seq, payload)
""")
_COUNT_CONNECTIONS: Final = text("""
UPDATE service_connections AS counted SET seq = counted.seq + told.more
FROM unnest(cast(:ids AS uuid[]), cast(:more AS bigint[])) AS told (id, more) WHERE counted.id = told.id
""")
_COUNT_KEYS: Final = text("""
UPDATE service_order_keys AS counted SET seq = counted.seq + told.more
FROM unnest(cast(:ids AS text[]), cast(:more AS bigint[])) AS told (id, more) WHERE counted.order_key = told.id
""")


@dataclass(frozen=True, slots=True)
class Event:
    event_id: UUID
    name: str
    payload: dict[str, Any]
    """JSON."""
    connection_id: UUID | None = None
    """Whom it is about. None: nobody, and it is the operators'."""
    provider_id: str = ""
    """With `order_key`: of one that is about no connection."""
    order_key: str = ""


async def enqueue_many(run: Executor, events: Sequence[Event]) -> frozenset[UUID]:
    """Put events into the caller's transaction, in their order. The ids of those that were new.

    Takes the row locks of their connections. One about a connection that is gone is left out. Raises StopError for an
    event without an id or a name.
    """
    for event in events:
        checked(event.event_id, name=event.name)
    known = set((await run.execute(_KNOWN, {"ids": [event.event_id for event in events]})).scalars())
    fresh = [event for event in events if event.event_id not in known]
    about = list({event.connection_id for event in fresh if event.connection_id})
    apart = sorted({event.order_key for event in fresh if event.connection_id is None})
    owners = {row.id: row for row in await run.execute(_CONNECTIONS, {"ids": about})}
    last: dict[UUID | str, int] = {id_: row.seq for id_, row in owners.items()}
    last |= {row.order_key: row.seq for row in await run.execute(_KEYS, {"keys": apart})}
    more: Counter[UUID | str] = Counter()
    rows = []
    for event in fresh:
        key = event.connection_id or event.order_key
        if key in last:
            more[key] += 1
            rows.append(_row(event, owners.get(event.connection_id), last[key] + more[key]))
    if rows:
        await run.execute(_ADD, {"source": SOURCE} | {name: [row[name] for row in rows] for name in rows[0]})
        counted = {key: count for key, count in more.items() if isinstance(key, UUID)}
        await run.execute(_COUNT_CONNECTIONS, {"ids": list(counted), "more": list(counted.values())})
        counted_apart = {key: count for key, count in more.items() if isinstance(key, str)}
        await run.execute(_COUNT_KEYS, {"ids": list(counted_apart), "more": list(counted_apart.values())})
    return frozenset(row["event_id"] for row in rows)


def _row(event: Event, owner: Row[Any] | None, seq: int) -> dict[str, Any]:
    order_key = str(event.connection_id or event.order_key)
    return {
        "event_id": event.event_id,
        "name": event.name,
        "provider_id": owner.provider_id if owner else event.provider_id,
        "scope_type": owner.scope_type if owner else "org",
        "scope_id": owner.scope_id if owner else "operators",
        "connection_id": event.connection_id,
        "order_key": order_key,
        "part": partition_of(order_key),
        "seq": seq,
        "payload": json.dumps(event.payload, allow_nan=False),
    }
