"""The outbox's flow: claim, effect, ledger rows and settle of a whole batch in one statement.

Whoever runs this has the partition's lock on the connection that it runs on (`dedicated`): nobody else claims there.
Order holds for each order key and projector, by `id`, which within an order key is the order of `seq`.

The plans were measured (docs/decisions/0006). Whatever the planner believes of an outbox whose rows are pending for an
instant only, it has no join to choose wrongly: everything is made of the claim alone, once materialized, and rows are
settled at the place where the claim saw them. What does not fit into that fails, and is done again one by one: an event
that has a ledger row already, because its settle missed a row that somebody changed meanwhile, or by somebody's hand.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db import outbox_held as held
from integrations.db import outbox_replay, replay, samples
from integrations.db.dedicated import transaction
from integrations.db.outbox_isolation import Isolation
from integrations.db.outbox_trouble import leave_flow, settle_events, stay_behind
from integrations.db.projectors import DUE, Projector
from integrations.db.trouble import is_the_items
from integrations.domain.ledger import Failure
from integrations.domain.outbox import Batch, Pair
from integrations.domain.replay import Window

_PENDING: Final = """status = 'pending' AND part = cast(:part AS smallint) AND id > cast(:after AS bigint)
  ORDER BY id LIMIT {limit}"""
_NAMED: Final = """event_id = ANY(:ids) AND (SELECT true FROM service_projector_ledger AS item
  WHERE item.event_id = event.event_id AND item.projector = '{name}') IS NULL ORDER BY id"""
_BATCH: Final = """
WITH waiting AS (
  SELECT destination, order_key FROM service_ledger_holds
  WHERE ledger = 'outbox' AND part = cast(:part AS smallint)
), due AS MATERIALIZED (
  SELECT ctid AS place, {due}, false AS out_of_order, {holds}
  FROM service_lifecycle_outbox AS event WHERE {claim}
), ledger AS (
  INSERT INTO service_projector_ledger (event_id, projector, position, status, part, order_key)
  {pairs}
), marks AS (
  INSERT INTO service_ledger_watermarks AS mark (ledger, part, destination, position, items, at)
  {marks}
  ON CONFLICT (ledger, part, destination) DO UPDATE SET
    position = greatest(mark.position, excluded.position), items = mark.items + excluded.items, at = excluded.at
){projections}
"""
_HOLD: Final = """
    order_key IN (SELECT order_key FROM waiting WHERE destination = '{name}')
      OR EXISTS (SELECT FROM waiting WHERE destination = '{name}' AND order_key = '*') AS held_{name}"""
_PAIRS: Final = """SELECT event_id, '{name}', id, CASE WHEN held_{name} THEN 'held' ELSE 'delivered' END,
    CASE WHEN held_{name} THEN part END, CASE WHEN held_{name} THEN order_key END FROM due"""
_MARKS: Final = """SELECT 'outbox', cast(:part AS smallint), '{name}', max(id), count(*), now() FROM due
  WHERE NOT held_{name} HAVING count(*) > 0"""
_PROJECTION: Final = """, due_{name} AS (
  SELECT * FROM due WHERE NOT held_{name}
), projected_{name} AS (
  {insert}
)"""
_SETTLED: Final = """, delivered AS (
  UPDATE service_lifecycle_outbox SET status = 'delivered' WHERE ctid = ANY(ARRAY(
    SELECT place FROM due WHERE NOT ({held})))
), held AS (
  UPDATE service_lifecycle_outbox SET status = 'held' WHERE ctid = ANY(ARRAY(
    SELECT place FROM due WHERE {held}))
)
SELECT count(*) AS taken, max(id) AS upto, {worked} FROM due
"""
_WORKED: Final = "count(*) FILTER (WHERE NOT held_{name}) AS worked_{name}"
_COUNTED: Final = "SELECT count(*) FROM due WHERE NOT ({held})"
_NEXT: Final = "SELECT event_id, id FROM service_lifecycle_outbox WHERE "


class Flow:
    """What moves through one dispatcher's partitions. It remembers how many in a row failed at each projector."""

    def __init__(self, projectors: Mapping[str, Projector]) -> None:
        self._projectors = projectors
        self.failed_in_a_row = dict.fromkeys(projectors, 0)

    async def batch(self, connection: AsyncConnection, part: int, limit: int, after: int = 0) -> Batch[Pair]:
        """Project and settle the next events of a partition. What fails leaves the flow, the others go on.

        `after`: where the last batch ended. Whoever works a backlog off would walk through all that it has settled
        each time, since an index forgets nothing before it is vacuumed. Whatever was committed late in front of it
        is met by the next batch that begins at 0.
        Raises DBAPIError when the database has trouble: then nothing of the batch was committed.
        """
        try:
            moved = (await connection.execute(self._flow(limit), {"part": part, "after": after})).mappings().one()
        except DBAPIError as error:
            if not is_the_items(error):
                raise
            return await self._isolated(connection, part, limit, after)
        for name in self._projectors:
            # A batch that only held back for it says nothing of a projector.
            if moved[f"worked_{name}"]:
                self.failed_in_a_row[name] = 0
        return Batch(taken=moved["taken"], upto=moved["upto"] or after)

    async def next_one(self, connection: AsyncConnection, part: int, after: int = 0) -> UUID | None:
        """The event that a batch of one would take."""
        found = await connection.execute(text(_NEXT + _PENDING.format(limit=1)), {"part": part, "after": after})
        return found.scalar()

    async def next_released(self, connection: AsyncConnection, part: int) -> UUID | None:
        """The event that a batch of one would take of what had been held back."""
        return await held.next_one(connection, part, tuple(self._projectors))

    async def set_aside(self, connection: AsyncConnection, event_id: UUID, failure: Failure) -> Batch[Pair]:
        """Take away what ended the process each time.

        In the flow, its own workflow tries it from now on, and nothing else with it, unless it has to wait behind an
        earlier one of its order key; in a replay it is dead again.
        """
        if await outbox_replay.give_up(connection, event_id, failure):
            return Batch(taken=1)
        failed: list[Pair] = []
        async with transaction(connection):
            for name in self._projectors:
                if await stay_behind(connection, event_id, name):
                    continue
                pair = await leave_flow(connection, event_id, name, failure)
                failed += [pair] if pair else []
            await settle_events(connection, [event_id])
        return Batch(taken=1, failed=tuple(failed))

    async def released(self, connection: AsyncConnection, part: int, limit: int) -> Batch[Pair]:
        """Deliver what had been held back behind items that are settled by now, and end those holds. One transaction.

        Taken 0: there was nothing to end.
        """
        taken, failed = 0, list[Pair]()
        for hold in await held.ended(connection, part, tuple(self._projectors)):
            isolation = Isolation(connection, self.failed_in_a_row)
            taken += await held.go_on(connection, hold, self._projectors[hold.projector], isolation, limit)
            failed += isolation.failed
        return Batch(taken=taken, failed=tuple(failed))

    async def windows(self, connection: AsyncConnection, parts: set[int]) -> list[Window]:
        """What plans want to be replayed of these partitions by now."""
        return await replay.windows(connection, "outbox", parts)

    async def replay(self, connection: AsyncConnection, window: Window, limit: int) -> int:
        """Replay the projections of about `limit` events. How many projections have an outcome now."""
        size = limit if limit == 1 else limit * len(self._projectors)
        return await outbox_replay.batch(connection, window, size, self._projectors)

    async def next_replayed(self, connection: AsyncConnection, window: Window) -> UUID | None:
        """The event that a replay of one would take."""
        return await outbox_replay.next_one(connection, window)

    async def sample(self, connection: AsyncConnection) -> None:
        """Write down how the outbox stands, for rates."""
        await samples.take(connection)

    async def _isolated(self, connection: AsyncConnection, part: int, limit: int, after: int) -> Batch[Pair]:
        """The same batch in halves, in order, until what fails stands alone. One transaction."""
        isolation = Isolation(connection, self.failed_in_a_row)
        async with transaction(connection):
            claim = text(_NEXT + _PENDING.format(limit=limit))
            claimed = (await connection.execute(claim, {"part": part, "after": after})).all()
            ids = [row.event_id for row in claimed]
            for name, projector in self._projectors.items():
                statement = _statement(_NAMED.format(name=name), ((name, projector),), _COUNTED)

                async def attempt(these: Sequence[UUID], statement: TextClause = statement) -> int:
                    moved = await connection.execute(statement, {"part": part, "ids": list(these)})
                    return int(moved.scalar_one())

                await isolation.project(name, ids, attempt)
            await settle_events(connection, ids)
        upto = claimed[-1].id if claimed else after
        return Batch(taken=len(ids), failed=tuple(isolation.failed), upto=upto)

    def _flow(self, limit: int) -> TextClause:
        return _statement(_PENDING.format(limit=limit), tuple(self._projectors.items()), _SETTLED)


@cache
def _statement(claim: str, projectors: tuple[tuple[str, Projector], ...], end: str) -> TextClause:
    names = [name for name, _ in projectors]

    def each(part: str, between: str) -> str:
        return between.join(part.format(name=name) for name in names)

    batch = _BATCH.format(
        due=DUE,
        claim=claim,
        holds=each(_HOLD, ","),
        pairs=each(_PAIRS, "\n  UNION ALL "),
        marks=each(_MARKS, "\n  UNION ALL "),
        projections="".join(
            _PROJECTION.format(name=name, insert=projector(f"due_{name}")) for name, projector in projectors
        ),
    )
    return text(batch + end.format(held=each("held_{name}", " OR "), worked=each(_WORKED, ", ")))
