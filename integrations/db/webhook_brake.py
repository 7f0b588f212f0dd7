"""A handler that is broken as a whole: one delivery tries for all that are for it, and the others wait.

They stay `pending`, due never, and are due again once that one is delivered or dead: no workflow each.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.dedicated import transaction
from integrations.db.session import Executor
from integrations.domain.ledger import PARTITIONS, WHOLE
from integrations.domain.webhook import Reaction

_AT_ONCE: Final = 5000
_PUT_ON: Final = text("""
INSERT INTO service_ledger_holds (ledger, part, destination, order_key, item_id)
SELECT 'webhooks', part, :reaction, :whole, :id FROM generate_series(0, :last) AS part
ON CONFLICT (ledger, part, destination, order_key) DO UPDATE SET
  item_id = excluded.item_id, since = now(), released_at = NULL
WHERE service_ledger_holds.released_at IS NOT NULL
""")
_ON: Final = text("""
SELECT destination FROM service_ledger_holds
WHERE ledger = 'webhooks' AND part = cast(:part AS smallint) AND released_at IS NULL
""")
_HOLD_BACK: Final = text("""
UPDATE service_webhook_deliveries SET due_at = 'infinity' WHERE id = ANY(:ids) AND status = 'pending'
""")
_RELEASE: Final = text("""
UPDATE service_ledger_holds SET released_at = now()
WHERE ledger = 'webhooks' AND item_id = :id AND released_at IS NULL
""")
_GO_ON: Final = text(f"""
UPDATE service_webhook_deliveries SET due_at = now() WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM service_webhook_deliveries
  WHERE status = 'pending' AND part = cast(:part AS smallint) AND due_at = 'infinity' LIMIT {_AT_ONCE}))
""")  # noqa: S608 - ours
_END: Final = text("""
DELETE FROM service_ledger_holds
WHERE ledger = 'webhooks' AND part = cast(:part AS smallint) AND released_at IS NOT NULL
""")


async def put_on(run: Executor, reaction: Reaction, delivery_id: UUID) -> None:
    """Have what is for this handler wait, in every partition, while one delivery is tried."""
    await run.execute(_PUT_ON, {"reaction": reaction, "whole": WHOLE, "id": delivery_id, "last": PARTITIONS - 1})


async def braked(run: Executor, part: int) -> set[str]:
    """The reactions whose handlers are tried by one delivery only."""
    return set((await run.execute(_ON, {"part": part})).scalars())


async def hold_back(run: Executor, ids: Sequence[UUID]) -> None:
    await run.execute(_HOLD_BACK, {"ids": list(ids)})


async def release(run: Executor, delivery_id: UUID) -> None:
    """A delivery is settled that others may wait for."""
    await run.execute(_RELEASE, {"id": delivery_id})


async def go_on(connection: AsyncConnection, part: int) -> int:
    """Make due what was held back, and end the released holds with the last of it. How much was touched.

    Only a partition's owner holds back in it: nothing is added meanwhile. What is still braked is held back again.
    """
    async with transaction(connection):
        count = int((await connection.execute(_GO_ON, {"part": part})).rowcount)
        if count < _AT_ONCE:
            count += int((await connection.execute(_END, {"part": part})).rowcount)
    return count
