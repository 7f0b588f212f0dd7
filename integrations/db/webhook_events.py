"""Whose a delivery is, and the lifecycle events that deliveries become: as a set, in a few statements.

The body never leaves its row: an event names the delivery, and whoever wants to know more reads it there.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text

from integrations.db.outbox_many import Event, enqueue_many
from integrations.db.session import Executor
from integrations.domain.ids import derived_event_id

RECEIVED: Final = "webhook.received"
MISSED: Final = "webhook.missed"
REAUTHORIZE: Final = "webhook.reauthorize"
_KNOWN: Final = 200
"""Characters of a delivery's own words in an event: longer ones stand in its row."""
# For each of a few keys one look: lateral, so that no plan reads all connections there are.
_WHOSE: Final = text("""
SELECT asked.n, owner.id FROM unnest(cast(:providers AS text[]), cast(:channels AS text[]), cast(:accounts AS text[]))
  WITH ORDINALITY AS asked (provider_id, channel, account, n)
CROSS JOIN LATERAL (
  SELECT (SELECT connection_id FROM service_webhook_channels AS channel
    WHERE channel.provider_id = asked.provider_id AND channel.channel = asked.channel) AS id
) AS its
CROSS JOIN LATERAL (
  SELECT id FROM service_connections WHERE id = its.id
  UNION ALL SELECT id FROM service_connections
  WHERE its.id IS NULL AND provider_id = asked.provider_id AND account_id = asked.account AND asked.account <> ''
    AND status <> 'disconnected'
  OFFSET 0
) AS owner ORDER BY asked.n, owner.id
""")


async def whose(run: Executor, rows: Sequence[Row[Any]]) -> dict[UUID, list[UUID]]:
    """Each delivery's connections: its channel's, or those of the account that it names and that are connected."""
    keys = list(dict.fromkeys(_key(row) for row in rows))
    providers, channels, accounts = zip(*keys, strict=True)
    told = {"providers": list(providers), "channels": list(channels), "accounts": list(accounts)}
    found: dict[tuple[str, str, str], list[UUID]] = {key: [] for key in keys}
    for n, connection_id in await run.execute(_WHOSE, told):
        found[keys[n - 1]].append(connection_id)
    return {row.id: found[_key(row)] for row in rows}


async def tell(run: Executor, rows: Sequence[Row[Any]], name: str, *, replayed: bool) -> dict[UUID, str]:
    """One event for each delivery and each of its connections; where it has none, one for the operators.

    What each delivery became, in words. The events' ids are made of the deliveries': told again, nothing comes twice.
    """
    connections = await whose(run, rows)
    events, words = list[Event](), dict[UUID, str]()
    for row in rows:
        payload = {
            "delivery": str(row.id),
            "provider": row.provider_id,
            "channel": row.channel,
            "delivery_id": row.delivery_id[:_KNOWN],
            "event": row.event[:_KNOWN],
            "resource": row.resource[:_KNOWN],
            "account": row.account[:_KNOWN],
            "replay": replayed,
        }
        mine = connections[row.id]
        about = [Event(derived_event_id(row.id, str(each)), name, payload, connection_id=each) for each in mine]
        apart = Event(
            derived_event_id(row.id, ""),
            name,
            payload,
            provider_id=row.provider_id,
            order_key=f"webhook:{row.provider_id}:{row.channel}",
        )
        events += about or [apart]
        words[row.id] = f"{name} of {len(mine)} connection{'s' if len(mine) != 1 else ''}" if mine else name
    await enqueue_many(run, events)
    return words


def _key(row: Row[Any]) -> tuple[str, str, str]:
    return row.provider_id, row.channel, row.account
