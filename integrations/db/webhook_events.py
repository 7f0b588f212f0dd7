"""Whose a delivery is, and the lifecycle events that deliveries become: as a set, in a few statements.

The body never leaves its row: an event names the delivery, and whoever wants to know more reads it there.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from integrations.db.outbox_many import Event, enqueue_many
from integrations.db.session import Executor
from integrations.domain.ids import derived_event_id
from integrations.domain.webhook import Reaction

RECEIVED: Final = "webhook.received"
MISSED: Final = "webhook.missed"
REAUTHORIZE: Final = "webhook.reauthorize"
UNMATCHED: Final = "webhook.unmatched"
"""A grant is gone, and none of ours is known to be it."""
DOUBTFUL: Final = "webhook.doubtful"
"""A grant is said to be gone, perhaps one before the one that there is."""
_GRAVE: Final = frozenset({Reaction.REVOKED, Reaction.UNINSTALLED})
_KNOWN: Final = 200
"""Characters of a delivery's own words in an event: longer ones stand in its row."""
# For each of a few keys one look: lateral, so that no plan reads all connections there are. A channel says whose its
# deliveries are, but many a provider sends those of all accounts to one address: what names another account is not
# about the channel's connection where it would end that, or where the account is another connection's. One that was
# given up is told nothing more; what would end it finds that it is over.
_WHOSE: Final = text("""
SELECT asked.n, owner.id FROM unnest(cast(:providers AS text[]), cast(:channels AS text[]), cast(:accounts AS text[]),
  cast(:graves AS boolean[])) WITH ORDINALITY AS asked (provider_id, channel, account, grave, n)
CROSS JOIN LATERAL (
  SELECT (SELECT connection_id FROM service_webhook_channels AS channel
    WHERE channel.provider_id = asked.provider_id AND channel.channel = asked.channel) AS id
) AS its
CROSS JOIN LATERAL (
  SELECT id FROM service_connections AS bound WHERE id = its.id AND (asked.grave OR bound.status <> 'disconnected')
    AND (asked.account = '' OR coalesce(bound.account_id, asked.account) = asked.account OR NOT (asked.grave OR EXISTS (
      SELECT FROM service_connections AS other
      WHERE other.provider_id = asked.provider_id AND other.account_id = asked.account)))
  UNION ALL SELECT id FROM service_connections
  WHERE its.id IS NULL AND provider_id = asked.provider_id AND account_id = asked.account AND asked.account <> ''
    AND status <> 'disconnected'
  OFFSET 0
) AS owner ORDER BY asked.n, owner.id
""")

_LOCK: Final = text("SELECT id FROM service_connections WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")


async def whose(run: Executor, rows: Sequence[Any]) -> dict[UUID, list[UUID]]:
    """Each delivery's connections that are connected: its channel's, or those of the account that it names."""
    keys = list(dict.fromkeys(_key(row) for row in rows))
    names = ("providers", "channels", "accounts", "graves")
    told = dict(zip(names, map(list, zip(*keys, strict=True)), strict=True))
    found: dict[tuple[str, str, str, bool], list[UUID]] = {key: [] for key in keys}
    for n, connection_id in await run.execute(_WHOSE, told):
        found[keys[n - 1]].append(connection_id)
    return {row.id: found[_key(row)] for row in rows}


async def lock_owners(run: Executor, rows: Sequence[Any]) -> None:
    """Lock all connections of these deliveries in the order of their ids, as everybody who locks several."""
    if rows:
        ids = {id_ for ids in (await whose(run, rows)).values() for id_ in ids}
        await run.execute(_LOCK, {"ids": list(ids)})


class Told(NamedTuple):
    words: dict[UUID, str]
    """What each delivery became."""
    first: set[UUID]
    """The connections that something is told about which was not told before."""


async def tell(run: Executor, rows: Sequence[Any], name: str, *, replayed: bool) -> Told:
    """One event for each delivery and each of its connections; where it has none, one for the operators.

    The events' ids are made of the deliveries': told again, nothing comes twice.
    """
    connections = await whose(run, rows)
    events, words = list[Event](), dict[UUID, str]()
    for row in rows:
        payload = _payload(row, replayed=replayed)
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
    new = await enqueue_many(run, events)
    return Told(words, {each.connection_id for each in events if each.connection_id and each.event_id in new})


async def tell_of(run: Executor, row: Any, name: str, connection_id: UUID, *, replayed: bool) -> bool:
    """One event of a delivery about one of its connections. False: it was told before."""
    event_id = derived_event_id(row.id, f"{name} {connection_id}")
    return event_id in await enqueue_many(
        run, [Event(event_id, name, _payload(row, replayed=replayed), connection_id=connection_id)]
    )


def _payload(row: Any, *, replayed: bool) -> dict[str, Any]:
    return {
        "delivery": str(row.delivery),
        "provider": row.provider_id,
        "channel": row.channel,
        "delivery_id": row.delivery_id[:_KNOWN],
        "event": row.event[:_KNOWN],
        "reaction": row.reaction,
        "resource": row.resource[:_KNOWN],
        "account": row.account[:_KNOWN],
        "replay": replayed,
    }


def _key(row: Any) -> tuple[str, str, str, bool]:
    return row.provider_id, row.channel, row.account, row.reaction in _GRAVE
