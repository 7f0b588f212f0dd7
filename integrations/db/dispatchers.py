"""A ledger's dispatchers: how many there are to be, what each last said of itself, and what there is for it to do."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.session import Executor
from integrations.domain import outbox, webhook
from integrations.domain.ledger import PARTITIONS

_WISHED: Final = """
SELECT coalesce((SELECT dispatchers FROM service_dispatch_scales WHERE ledger = :ledger), :default)"""
_BEGIN: Final = text("""
WITH before AS (SELECT running FROM service_dispatchers WHERE ledger = :ledger AND number = :number)
INSERT INTO service_dispatchers AS mine (ledger, number, worker, parts, running, batch, started_at, seen_at)
VALUES (:ledger, :number, :worker, '{}', true, :full, now(), now())
ON CONFLICT (ledger, number) DO UPDATE SET worker = excluded.worker, parts = '{}', running = true,
  batch = least(:full, CASE WHEN mine.running THEN greatest(1, mine.batch / 10) ELSE mine.batch END),
  suspect = CASE WHEN mine.running AND mine.batch = 1 THEN mine.suspect END, started_at = now(), seen_at = now()
RETURNING batch, suspect, coalesce((SELECT running FROM before), false) AS lost
""")
_BEAT: Final = text("""
UPDATE service_dispatchers SET seen_at = now(), parts = cast(:parts AS smallint[]), batch = :batch,
  items = items + :items
WHERE ledger = :ledger AND number = :number AND worker = :worker
""")
_SUSPECT: Final = text("""
UPDATE service_dispatchers SET suspect = :suspect WHERE ledger = :ledger AND number = :number AND worker = :worker
""")
_END: Final = text("""
UPDATE service_dispatchers SET running = false, suspect = NULL, seen_at = now(), parts = '{}', items = items + :items
WHERE ledger = :ledger AND number = :number AND worker = :worker
""")
_FAILED: Final = text("""
UPDATE service_dispatchers SET running = :lost, suspect = CASE WHEN :lost THEN suspect END, errors = errors + 1,
  last_error = :error, last_error_at = now()
WHERE ledger = :ledger AND number = :number AND worker = :worker
""")
_LOOK: Final = """
SELECT ({wished}) AS dispatchers,
  ARRAY(SELECT mine.part FROM unnest(cast(:parts AS smallint[])) AS mine (part)
    -- A value and no EXISTS: that the planner would join, by a walk through all that is pending.
    WHERE (SELECT true FROM {table} AS item WHERE status = 'pending' AND item.part = mine.part LIMIT 1)) AS pending,
  ARRAY(SELECT DISTINCT part FROM service_ledger_holds
    WHERE ledger = :ledger AND part = ANY(cast(:parts AS smallint[])) AND released_at IS NOT NULL) AS released
"""
TABLES: Final = {"outbox": "service_lifecycle_outbox", webhook.LEDGER: "service_webhook_deliveries"}
"""Where each ledger's items are, with a `part` and a `status`."""
DEFAULTS: Final = {"outbox": outbox.DISPATCHERS, webhook.LEDGER: webhook.DISPATCHERS}
"""How many each ledger has unless somebody wishes otherwise."""


@dataclass(frozen=True)
class Found:
    """How a dispatcher left its seat."""

    batch: int
    """The size of the next batches."""
    suspect: UUID | None
    """The item that ended the process, if one stood alone."""
    lost: bool
    """It never said that it ended."""


@dataclass(frozen=True)
class Seat:
    """One dispatcher as one process fills it. What another one that took it over wrote stays untouched."""

    ledger: str
    number: int
    worker: str
    """Differs from attempt to attempt."""

    @property
    def _key(self) -> dict[str, Any]:
        return {"ledger": self.ledger, "number": self.number, "worker": self.worker}

    async def take(self, connection: AsyncConnection, full: int) -> Found:
        """Begin. After an end that was none batches are a tenth: whatever ended it is in the next one again."""
        row = (await connection.execute(_BEGIN, self._key | {"full": full})).one()
        return Found(row.batch, row.suspect, row.lost)

    async def beat(self, connection: AsyncConnection, parts: Collection[int], batch: int, items: int) -> None:
        """Say that it lives. `items`: settled since it last did."""
        await connection.execute(_BEAT, self._key | {"parts": sorted(parts), "batch": batch, "items": items})

    async def suspect(self, connection: AsyncConnection, item_id: UUID | None) -> None:
        await connection.execute(_SUSPECT, self._key | {"suspect": item_id})

    async def leave(self, run: Executor, items: int) -> None:
        """An orderly end."""
        await run.execute(_END, self._key | {"items": items})

    async def failed(self, run: Executor, error: str, *, lost: bool) -> None:
        """Ended by an error that was met and told.

        `lost`: the session ended under it, which what it had in hand may have done; otherwise nothing is suspected.
        """
        await run.execute(_FAILED, self._key | {"error": error, "lost": lost})


@dataclass(frozen=True)
class Look:
    """What a dispatcher finds to do."""

    dispatchers: int
    """As many as there are to be."""
    pending: list[int]
    """Partitions with items that wait for the flow."""
    released: list[int]
    """Partitions with holds that have nothing to wait for any more."""


async def look(connection: AsyncConnection, ledger: str, parts: Collection[int]) -> Look:
    sql = text(_LOOK.format(wished=_WISHED, table=TABLES[ledger]))
    row = (await connection.execute(sql, {"ledger": ledger, "default": DEFAULTS[ledger], "parts": sorted(parts)})).one()
    return Look(row.dispatchers, list(row.pending), list(row.released))


async def wished(run: Executor, ledger: str) -> int:
    """How many dispatchers there are to be."""
    found = await run.execute(text(_WISHED), {"ledger": ledger, "default": DEFAULTS[ledger]})
    return min(PARTITIONS, int(found.scalar_one()))
