"""Coalescing: of the changes of one resource that wait, the last is handled in the place of all.

A change waits for its window. When the oldest of a resource is due, the latest one is handled, due or not, and those
before it are folded into it in the same transaction: a steady stream gets through once in each window, and the last
change always. One that failed before, or was given up, is folded too: what it would tell is over. So it is as well when
it comes late, is sent again or is replayed after a later change was handled: nobody is told an older state after a
newer one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text

from integrations.db.session import Executor
from integrations.db.webhook_notices import COLUMNS

_AT_ONCE: Final = 5000
"""So many are folded in one transaction. What is left of them is met again, after the change that was handled."""
# Of one account: what two of them call `n1` is not one thing.
_KEYS: Final = """unnest(cast(:providers AS text[]), cast(:channels AS text[]), cast(:resources AS text[]),
  cast(:accounts AS text[])) AS key (provider_id, channel, resource, account)"""
# Lateral: for each key one look into the index, whatever the planner believes of how many wait.
_LATEST: Final = text(f"""
SELECT latest.* FROM {_KEYS} CROSS JOIN LATERAL (
  SELECT {COLUMNS} FROM service_webhook_deliveries AS item
  WHERE item.provider_id = key.provider_id AND item.channel = key.channel AND item.resource = key.resource
    AND item.account = key.account AND item.resource <> '' AND item.status = 'pending'
  ORDER BY item.position DESC LIMIT 1
) AS latest
""")  # noqa: S608 - ours
_ARRAYS: Final = """cast(:ids AS uuid[]), cast(:providers AS text[]), cast(:channels AS text[]),
  cast(:resources AS text[]), cast(:accounts AS text[]), cast(:positions AS bigint[])"""
_NAMES: Final = "id, provider_id, channel, resource, account, position"
_FOLD: Final = text(f"""
WITH earlier AS MATERIALIZED (
  SELECT item.id, lead.id AS lead, lead.settled_at
  FROM unnest({_ARRAYS}, cast(:settled AS timestamptz[])) AS lead ({_NAMES}, settled_at) CROSS JOIN LATERAL (
    SELECT id FROM service_webhook_deliveries AS item
    WHERE item.provider_id = lead.provider_id AND item.channel = lead.channel AND item.resource = lead.resource
      AND item.account = lead.account AND item.position < lead.position
      AND item.resource <> '' AND item.status IN ('pending', 'retrying', 'dead')
    OFFSET 0
  ) AS item LIMIT :most
), folded AS (
  UPDATE service_webhook_deliveries AS item SET status = 'coalesced', folded_into = earlier.lead,
    settled_at = coalesce(earlier.settled_at, now()), lease_until = NULL, waits = NULL
  FROM earlier WHERE item.id = earlier.id AND item.status IN ('pending', 'retrying', 'dead') RETURNING item.id
), released AS (
  -- One of them may have tried for all that are for its handler.
  UPDATE service_ledger_holds SET released_at = now()
  WHERE ledger = 'webhooks' AND released_at IS NULL AND item_id IN (SELECT id FROM folded)
)
SELECT count(*) FROM folded
""")  # noqa: S608 - ours
# Settled when what it is folded into was: it is forgotten with that, and not after it.
_SUPERSEDE: Final = text(f"""
WITH past AS MATERIALIZED (
  SELECT lead.id, later.id AS later, later.settled_at FROM unnest({_ARRAYS}) AS lead ({_NAMES}) CROSS JOIN LATERAL (
    SELECT id, settled_at FROM service_webhook_deliveries AS item
    WHERE item.provider_id = lead.provider_id AND item.channel = lead.channel AND item.resource = lead.resource
      AND item.account = lead.account AND item.position > lead.position
      AND item.resource <> '' AND item.status = 'delivered'
    ORDER BY item.position DESC LIMIT 1
  ) AS later
)
UPDATE service_webhook_deliveries AS item SET status = 'coalesced', folded_into = past.later,
  settled_at = past.settled_at, lease_until = NULL, waits = NULL
FROM past WHERE item.id = past.id AND item.status IN ('pending', 'retrying', 'dead')
RETURNING item.id, item.folded_into, item.settled_at
""")  # noqa: S608 - ours


async def leads(run: Executor, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """The deliveries to be handled in place of these: of each resource the latest that waits, and what has none."""
    alone = [row for row in rows if not row.resource]
    keys = dict.fromkeys((row.provider_id, row.channel, row.resource, row.account) for row in rows if row.resource)
    if not keys:
        return alone
    names = ("providers", "channels", "resources", "accounts")
    told = dict(zip(names, map(list, zip(*keys, strict=True)), strict=True))
    return [*alone, *await run.execute(_LATEST, told)]


async def fold(run: Executor, leads: Sequence[Row[Any]], past: Mapping[UUID, Row[Any]]) -> int:
    """Fold what came before these and is not over with into them. How many. Before any connection is locked.

    `past`: as `supersede` found it. What came before one of those is folded into the same later change.
    """
    told = _changes(leads)
    if told is None:
        return 0
    into = [past.get(id_) for id_ in told["ids"]]
    told["ids"] = [found.folded_into if found else id_ for found, id_ in zip(into, told["ids"], strict=True)]
    told["settled"] = [found.settled_at if found else None for found in into]
    return int((await run.execute(_FOLD, told | {"most": _AT_ONCE})).scalar_one())


async def supersede(run: Executor, rows: Sequence[Row[Any]]) -> dict[UUID, Row[Any]]:
    """Fold those of these that a later change was handled before into that. The caller has locked them.

    By their ids: `folded_into`, and `settled_at`.
    """
    told = _changes(rows)
    return {row.id: row for row in await run.execute(_SUPERSEDE, told)} if told else {}


def _changes(rows: Sequence[Row[Any]]) -> dict[str, list[Any]] | None:
    """None when none of them is about a resource."""
    changes = [row for row in rows if row.resource]
    if not changes:
        return None
    return {
        "ids": [row.id for row in changes],
        "providers": [row.provider_id for row in changes],
        "channels": [row.channel for row in changes],
        "resources": [row.resource for row in changes],
        "accounts": [row.account for row in changes],
        "positions": [row.position for row in changes],
    }
