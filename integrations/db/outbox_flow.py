"""The outbox's flow: claim, effect, ledger rows and settle of a whole batch in one statement.

Whoever runs this has the partition's lock on the connection that it runs on (`dedicated`): nobody else claims there.
Order holds for each order key and projector, by `id`, which within an order key is the order of `seq`.

The plans were measured (docs/decisions/0006). The claim is materialized, and its rows are settled at the place where it
saw them, since `UPDATE … FROM` a claim of unknown size scans the table. An event that somebody else changed meanwhile
is not met there; it stays pending, and meets its ledger rows the next time.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db import outbox_held as held
from integrations.db.dedicated import transaction
from integrations.db.outbox_isolation import Isolation
from integrations.db.outbox_trouble import leave_flow, settle_events
from integrations.db.projectors import DUE, Projector
from integrations.db.trouble import is_the_items
from integrations.domain.ledger import Failure
from integrations.domain.outbox import Batch, Pair

_PENDING: Final = "status = 'pending' AND part = cast(:part AS smallint) ORDER BY id LIMIT {limit}"
_NAMED: Final = "event_id = ANY(:ids) ORDER BY id"
_BATCH: Final = """
WITH waiting AS (
  SELECT destination, order_key FROM service_ledger_holds
  WHERE ledger = 'outbox' AND part = cast(:part AS smallint) AND destination IN ({names})
), due AS MATERIALIZED (
  SELECT ctid AS place, {due}, false AS out_of_order,
    order_key IN (SELECT order_key FROM waiting) OR '*' IN (SELECT order_key FROM waiting) AS waits
  FROM service_lifecycle_outbox WHERE {claim}
), ledger AS (
  INSERT INTO service_projector_ledger (event_id, projector, position, status, part, order_key)
  SELECT event_id, projector, id, CASE WHEN held THEN 'held' ELSE 'delivered' END,
    CASE WHEN held THEN part END, CASE WHEN held THEN order_key END
  FROM (
    SELECT due.*, projector, waits AND (
      (projector, order_key) IN (SELECT destination, order_key FROM waiting)
      OR (projector, '*') IN (SELECT destination, order_key FROM waiting)) AS held
    FROM due CROSS JOIN (VALUES {values}) AS projectors (projector)
  ) AS pairs
  ON CONFLICT DO NOTHING
  RETURNING event_id, projector, position, status
), marks AS (
  INSERT INTO service_ledger_watermarks AS mark (ledger, part, destination, position, items, at)
  SELECT 'outbox', cast(:part AS smallint), projector, max(position), count(*), now()
  FROM ledger WHERE status = 'delivered' GROUP BY projector
  ON CONFLICT (ledger, part, destination) DO UPDATE SET
    position = greatest(mark.position, excluded.position), items = mark.items + excluded.items, at = excluded.at
){projections}
"""
_PROJECTION: Final = """, due_{name} AS (
  SELECT due.* FROM due JOIN ledger USING (event_id) WHERE ledger.projector = '{name}' AND ledger.status = 'delivered'
), projected_{name} AS (
  {insert}
)"""
_SETTLED: Final = """, known AS (
  -- Ledger rows from before: of a settle that missed its row, or of somebody's own hand. In the flow there are none.
  SELECT DISTINCT event_id FROM due JOIN service_projector_ledger USING (event_id)
  WHERE (SELECT count(*) FROM ledger) < (SELECT count(*) FROM due) * {count}
), delivered AS (
  UPDATE service_lifecycle_outbox SET status = 'delivered' WHERE ctid = ANY(ARRAY(
    SELECT place FROM due WHERE NOT waits AND event_id NOT IN (SELECT event_id FROM known)))
), held AS (
  UPDATE service_lifecycle_outbox SET status = 'held' WHERE ctid = ANY(ARRAY(
    SELECT place FROM due WHERE waits AND event_id NOT IN (SELECT event_id FROM known)))
)
SELECT (SELECT count(*) FROM due) AS taken, ARRAY(SELECT event_id FROM known) AS known
"""
_COUNTED: Final = "SELECT count(*) FILTER (WHERE status = 'delivered') AS delivered FROM ledger"
_NEXT: Final = "SELECT event_id FROM service_lifecycle_outbox WHERE "


class Flow:
    """What moves through one dispatcher's partitions. It remembers how many in a row failed at each projector."""

    def __init__(self, projectors: Mapping[str, Projector]) -> None:
        self._projectors = projectors
        self.failed_in_a_row = dict.fromkeys(projectors, 0)

    async def batch(self, connection: AsyncConnection, part: int, limit: int) -> Batch:
        """Project and settle the next events of a partition. What fails leaves the flow, the others go on.

        Raises DBAPIError when the database has trouble: then nothing of the batch was committed.
        """
        try:
            moved = (await connection.execute(self._flow(limit), {"part": part})).one()
        except DBAPIError as error:
            if not is_the_items(error):
                raise
            return await self._isolated(connection, part, limit)
        if moved.known:
            await settle_events(connection, moved.known)
        if moved.taken:
            self.failed_in_a_row = dict.fromkeys(self._projectors, 0)
        return Batch(taken=moved.taken)

    async def next_one(self, connection: AsyncConnection, part: int) -> UUID | None:
        """The event that a batch of one would take."""
        found = await connection.execute(text(_NEXT + _PENDING.format(limit=1)), {"part": part})
        return found.scalar()

    async def set_aside(self, connection: AsyncConnection, event_id: UUID, failure: Failure) -> Batch:
        """Take out of the flow what ended the process each time: its own workflow tries it, and nothing else."""
        failed: list[Pair] = []
        async with transaction(connection):
            for name in self._projectors:
                pair = await leave_flow(connection, event_id, name, failure)
                failed += [pair] if pair else []
            await settle_events(connection, [event_id])
        return Batch(taken=1, failed=tuple(failed))

    async def released(self, connection: AsyncConnection, part: int, limit: int) -> Batch:
        """Deliver what had been held back behind items that are settled by now, and end those holds. One transaction.

        Taken 0: there was nothing to end.
        """
        taken, failed = 0, list[Pair]()
        for hold in await held.ended(connection, part, tuple(self._projectors)):
            isolation = Isolation(connection, self.failed_in_a_row)
            taken += await held.go_on(connection, hold, self._projectors[hold.projector], isolation, limit)
            failed += isolation.failed
        return Batch(taken=taken, failed=tuple(failed))

    async def replay(self, connection: AsyncConnection, parts: set[int], limit: int) -> int:  # noqa: ARG002
        """Replay what plans want of these partitions by now. How many."""
        return 0

    async def _isolated(self, connection: AsyncConnection, part: int, limit: int) -> Batch:
        """The same batch in halves, in order, until what fails stands alone. One transaction."""
        isolation = Isolation(connection, self.failed_in_a_row)
        async with transaction(connection):
            claimed = await connection.execute(text(_NEXT + _PENDING.format(limit=limit)), {"part": part})
            ids = claimed.scalars().all()
            for name, projector in self._projectors.items():
                statement = _statement(_NAMED, ((name, projector),), _COUNTED)

                async def attempt(these: Sequence[UUID], statement: TextClause = statement) -> int:
                    moved = await connection.execute(statement, {"part": part, "ids": list(these)})
                    return int(moved.scalar_one())

                await isolation.project(name, ids, attempt)
            await settle_events(connection, ids)
        return Batch(taken=len(ids), failed=tuple(isolation.failed))

    def _flow(self, limit: int) -> TextClause:
        return _statement(_PENDING.format(limit=limit), tuple(self._projectors.items()), _SETTLED)


@cache
def _statement(claim: str, projectors: tuple[tuple[str, Projector], ...], end: str) -> TextClause:
    names = [name for name, _ in projectors]
    projections = [_PROJECTION.format(name=name, insert=projector(f"due_{name}")) for name, projector in projectors]
    batch = _BATCH.format(
        names=", ".join(f"'{name}'" for name in names),
        values=", ".join(f"('{name}')" for name in names),
        due=DUE,
        claim=claim,
        projections="".join(projections),
    )
    return text(batch + end.format(count=len(names)))
