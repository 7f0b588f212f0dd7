"""Where nothing arrives at the moment: one dispatch tries for all that goes there, and the others are held.

An origin is what fails as a whole: a webhook's host, the mail server. Its hold ends when the one that tries is settled.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.notification_claims import Claimed
from integrations.db.session import Executor

_RELEASED: Final = 5000
"""Held dispatches that go back to the flow in one statement."""
_HOLD: Final = text("""
UPDATE service_notification_dispatches AS item SET status = 'held', token = NULL, lease_until = NULL
FROM unnest(cast(:ids AS uuid[]), cast(:tokens AS uuid[])) AS told (id, token)
WHERE item.id = told.id AND item.token = told.token AND item.status = 'processing'
""")
_BRAKE: Final = text("""
INSERT INTO service_ledger_holds (ledger, part, destination, order_key, item_id)
VALUES ('notifications', :part, :channel, :origin, :item_id)
ON CONFLICT (ledger, part, destination, order_key) DO UPDATE SET
  item_id = excluded.item_id, since = now(), released_at = NULL
WHERE service_ledger_holds.released_at IS NOT NULL
RETURNING order_key
""")
_LET_GO: Final = text("""
UPDATE service_ledger_holds SET released_at = now() WHERE ledger = 'notifications' AND released_at IS NULL
  AND (item_id = :item_id OR (:arrived AND destination = :channel AND order_key = :origin))
""")
_HELD: Final = text("""
SELECT order_key AS origin, released_at IS NOT NULL AS released FROM service_ledger_holds
WHERE ledger = 'notifications' AND part = :part
""")
_RELEASE: Final = text(f"""
WITH held AS (
  SELECT item.ctid AS place FROM service_notification_dispatches AS item
  LEFT JOIN service_contact_addresses AS address ON address.id = item.address_id
  WHERE item.status = 'held' AND item.part = cast(:part AS smallint) AND NOT EXISTS (
    -- An address may have been replaced since, or removed: where it leads by now is what counts.
    SELECT FROM service_ledger_holds AS hold WHERE hold.ledger = 'notifications' AND hold.part = item.part
      AND hold.order_key = address.origin AND hold.released_at IS NULL)
  LIMIT {_RELEASED}
)
UPDATE service_notification_dispatches SET status = 'pending' WHERE ctid = ANY(ARRAY(SELECT place FROM held))
RETURNING id
""")  # noqa: S608 - ours
_END_HOLD: Final = text("""
DELETE FROM service_ledger_holds WHERE ledger = 'notifications' AND part = :part AND order_key = ANY(:origins)
  AND released_at IS NOT NULL
""")


async def hold(run: Executor, items: Collection[Claimed]) -> None:
    """Put aside what goes to where nothing arrives at the moment."""
    if items:
        await run.execute(_HOLD, {"ids": [item.id for item in items], "tokens": [item.token for item in items]})


async def let_go(run: Executor, item: Claimed, *, arrived: bool) -> None:
    """A dispatch is settled that others may have been held for: they go on. `arrived`: where it goes to is back."""
    told = {"item_id": item.id, "channel": item.channel, "origin": item.origin, "arrived": arrived}
    await run.execute(_LET_GO, told)


async def brake(run: Executor, item: Claimed, part: int) -> bool:
    """Where an item goes to is out as a whole, and that item tries for all. False: another one does already."""
    told = {"part": part, "channel": item.channel, "origin": item.origin, "item_id": item.id}
    return (await run.execute(_BRAKE, told)).one_or_none() is not None


@dataclass(frozen=True, slots=True)
class Holds:
    out: frozenset[str]
    """Origins that nothing is sent to."""
    released: frozenset[str]
    """Those that may be tried again by all."""


async def holds(connection: AsyncConnection, part: int) -> Holds:
    rows = (await connection.execute(_HELD, {"part": part})).all()
    return Holds(
        frozenset(row.origin for row in rows if not row.released), frozenset(row.origin for row in rows if row.released)
    )


async def go_on(connection: AsyncConnection, part: int, released: Collection[str]) -> int:
    """Let what nothing holds any more into the flow again, and end the released holds with the last. How many."""
    count = len((await connection.execute(_RELEASE, {"part": part})).all())
    if count < _RELEASED and released:
        await connection.execute(_END_HOLD, {"part": part, "origins": list(released)})
    return count
