"""Replay in the outbox: the drain with another claim. What is dead is projected, everything else is left as it is.

One statement for a batch, as in the flow (`outbox_flow`), on the connection that has the partition's lock. An item that
is delivered is counted and not written down: only the partition's progress is. That row is also the fence: a plan that
has ended has cut its total to what has an outcome, and a batch that comes late moves nothing.

The traps of the planner that this goes around: rows are looked up one by one, by lateral subqueries with a limit and
by scalar ones, which it cannot turn into a join over a whole table; and they are changed at the place where they were
seen. Nobody else changes what is dead, but its event has a status that a retry of its other projection sets too: such
an event waits for the end of the batch, and is locked before it is looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.dedicated import savepoint, transaction
from integrations.db.outbox_trouble import APPEND
from integrations.db.projectors import DUE, Projector
from integrations.db.replay import OF_PART
from integrations.db.trouble import failure_of, is_the_items
from integrations.domain.ledger import Failure
from integrations.domain.replay import Window

_BATCH: Final = """
WITH reached AS MATERIALIZED (
  SELECT upto FROM service_replay_progress WHERE {of_part}
    AND EXISTS (SELECT FROM service_replay_plans AS plan WHERE plan.id = :plan_id AND plan.status = 'running'
      AND plan.max_failures >= (SELECT sum(dead) FROM service_replay_progress AS far WHERE far.plan_id = :plan_id))
), chosen AS MATERIALIZED (
  SELECT ctid AS line, n, item_id, destination FROM service_replay_items
  WHERE {of_part} AND n > (SELECT upto FROM reached) AND n <= :upto ORDER BY n LIMIT {limit}
), event AS MATERIALIZED (
  SELECT asked.*, told.*, pair.*,
    CASE WHEN dead_still > 0 THEN 'dead' WHEN retrying THEN 'retrying' WHEN held THEN 'held' ELSE 'delivered' END
      AS becomes
  FROM (SELECT item_id, min(n) AS n, array_agg(destination) AS asked_for FROM chosen GROUP BY item_id) AS asked
  CROSS JOIN LATERAL (
    SELECT ctid AS place FROM service_lifecycle_outbox WHERE event_id = item_id LIMIT 1) AS told
  CROSS JOIN LATERAL (
    SELECT array_agg(ctid) FILTER (WHERE mine) AS places, array_agg(projector) FILTER (WHERE mine) AS projectors,
      count(*) FILTER (WHERE status = 'dead' AND NOT mine) AS dead_still,
      bool_or(status = 'retrying') AS retrying, bool_or(status = 'held') AS held
    FROM (
      SELECT ctid, projector, status, status = 'dead' AND projector = ANY(asked_for) AND projector IN ({names}) AS mine
      FROM service_projector_ledger AS known WHERE known.event_id = item_id OFFSET 0) AS known) AS pair
), barrier AS MATERIALIZED (
  SELECT coalesce(min(n), :upto + 1) AS n FROM event
  WHERE retrying AND places IS NOT NULL AND NOT cast(:locked AS boolean)
), taken AS MATERIALIZED (
  SELECT * FROM chosen WHERE n < (SELECT n FROM barrier)
), due AS MATERIALIZED (
  SELECT unnest(places) AS place FROM event WHERE n < (SELECT n FROM barrier)
), moved AS (
  UPDATE service_replay_progress SET upto = (SELECT max(n) FROM taken),
    delivered = delivered + (SELECT count(*) FROM due),
    skipped = skipped + (SELECT count(*) FROM taken) - (SELECT count(*) FROM due)
  WHERE {of_part} AND upto = (SELECT upto FROM reached) AND EXISTS (SELECT FROM taken)
    AND delivered + skipped + dead + (SELECT count(*) FROM taken) <= total
  RETURNING plan_id
), settled AS (
  UPDATE service_projector_ledger
  SET status = 'delivered', settled_at = now(), part = NULL, order_key = NULL, lease_until = NULL
  WHERE ctid = ANY(ARRAY(SELECT place FROM due WHERE EXISTS (SELECT FROM moved)))
    AND status NOT IN ('delivered', 'held', 'retrying')
), odd AS MATERIALIZED (
  -- Looked at one by one, where there are any: what is not dead, or cannot be projected.
  SELECT line, coalesce(known.status, 'gone') AS status, destination IN ({names}) AS named, (
    SELECT true FROM service_lifecycle_outbox WHERE event_id = item_id) IS NULL AS lost
  FROM taken LEFT JOIN LATERAL (
    SELECT status FROM service_projector_ledger WHERE event_id = item_id AND projector = destination LIMIT 1) AS known
  ON true WHERE (SELECT count(*) FROM due) < (SELECT count(*) FROM taken) AND EXISTS (SELECT FROM moved)
){projections}{becomes}{skipped}
SELECT (SELECT count(*) FROM taken WHERE EXISTS (SELECT FROM moved)) AS taken,
  (SELECT count(*) FROM taken) < (SELECT count(*) FROM chosen) AS barred
"""
# Its columns are read at the place that was found: to carry them along costs more than to go there once more.
_PROJECTION: Final = """, due_{name} AS (
  SELECT {due}, true AS out_of_order FROM service_lifecycle_outbox WHERE ctid = ANY(ARRAY(
    SELECT place FROM event WHERE '{name}' = ANY(projectors) AND n < (SELECT n FROM barrier)
      AND EXISTS (SELECT FROM moved)))
), projected_{name} AS (
  {insert}
)"""
_BECOMES: Final = """, becomes_{status} AS (
  UPDATE service_lifecycle_outbox SET status = '{status}' WHERE ctid = ANY(ARRAY(
    SELECT place FROM event WHERE becomes = '{status}' AND places IS NOT NULL AND n < (SELECT n FROM barrier)
      AND EXISTS (SELECT FROM moved)))
)"""
_SKIPPED: Final = """, skipped_{nth} AS (
  UPDATE service_replay_items SET outcome = 'skipped', why = '{why}' WHERE ctid = ANY(ARRAY(
    SELECT line FROM odd WHERE {which}))
)"""
_WHY: Final = {
    "status = 'held'": "in the flow again: held behind an earlier event of its order key",
    "status = 'retrying'": "in the flow again: its own workflow tries it",
    "status = 'gone'": "its row in the projector ledger is gone",
    "status = 'dead' AND NOT named": "there is no projector of this name",
    "status = 'dead' AND named AND lost": "its event is gone",
}
"""Of those that were delivered already nothing is written down."""
_NEXT: Final = f"""SELECT n, item_id, destination FROM service_replay_items
  WHERE {OF_PART} AND n > (SELECT upto FROM service_replay_progress WHERE {OF_PART}) ORDER BY n LIMIT 1"""  # noqa: S608
_LOCK: Final = text(
    f"SELECT FROM service_lifecycle_outbox WHERE event_id = (SELECT item_id FROM ({_NEXT}) AS next) FOR UPDATE"  # noqa: S608
)
_DEAD_AGAIN: Final = text(f"""
WITH next AS MATERIALIZED ({_NEXT}), moved AS (
  UPDATE service_replay_progress SET upto = (SELECT n FROM next), dead = dead + 1
  WHERE {OF_PART} AND EXISTS (SELECT FROM next) AND delivered + skipped + dead < total RETURNING plan_id
), noted AS (
  UPDATE service_replay_items SET outcome = 'dead', why = cast(:error AS text)
  WHERE {OF_PART} AND n = (SELECT n FROM next) AND EXISTS (SELECT FROM moved)
), item AS (
  UPDATE service_projector_ledger SET cause = :cause, fingerprint = :fingerprint, error = cast(:error AS text),
    failed_at = now(), attempts = coalesce(attempts, 0) + 1,
    history = {APPEND}jsonb_build_object('at', now(), 'attempt', coalesce(attempts, 0) + 1,
           'by', 'replay:' || cast(:plan_id AS text), 'error', cast(:error AS text))
  WHERE event_id = (SELECT item_id FROM next) AND projector = (SELECT destination FROM next) AND status = 'dead'
    AND EXISTS (SELECT FROM moved)
)
SELECT (SELECT count(*) FROM moved) AS moved,
  (SELECT sum(dead) + 1 FROM service_replay_progress WHERE plan_id = :plan_id)
  > (SELECT max_failures FROM service_replay_plans WHERE id = :plan_id) AS exceeded
""")  # noqa: S608


_NEXT_OF_ALL: Final = text("""
SELECT plan.id AS plan_id, progress.part FROM service_replay_plans AS plan
JOIN service_replay_progress AS progress ON progress.plan_id = plan.id
CROSS JOIN LATERAL (
  SELECT item_id FROM service_replay_items AS item
  WHERE item.plan_id = plan.id AND item.part = progress.part AND item.n > progress.upto ORDER BY item.n LIMIT 1
) AS next
WHERE plan.ledger = 'outbox' AND plan.status = 'running' AND next.item_id = :item_id
""")


@dataclass(frozen=True)
class _Moved:
    taken: int
    barred: bool
    """The next item's event is being changed by a retry as well."""


async def batch(connection: AsyncConnection, window: Window, limit: int, projectors: Mapping[str, Projector]) -> int:
    """Replay up to `limit` items of a plan in one partition, in order. How many have an outcome now; 0: nothing.

    An item that fails is dead again and no other suffers from it; after more of them than the plan allows, no more are
    taken. Raises DBAPIError when the database has trouble: then nothing of the batch was committed.
    """
    statement = _statement(limit, tuple(projectors.items()))
    try:
        moved = await _move(connection, statement, window)
    except DBAPIError as error:
        if not is_the_items(error):
            raise
        return await _Isolated(connection, window, projectors).take(limit)
    if moved.taken or not moved.barred:
        return moved.taken
    return await _Isolated(connection, window, projectors).take(1)


async def next_one(connection: AsyncConnection, window: Window) -> UUID | None:
    """The event of the item that a batch of one would take."""
    found = await connection.execute(text(f"SELECT item_id FROM ({_NEXT}) AS next"), _told(window))  # noqa: S608
    return found.scalar()


async def give_up(connection: AsyncConnection, item_id: UUID, failure: Failure) -> int:
    """Count an item as dead again without trying it, in each replay whose next one it is. How many those are.

    It ended the process, or the database gave up on it, each time it was tried alone.
    """
    found = (await connection.execute(_NEXT_OF_ALL, {"item_id": item_id})).all()
    for plan_id, part in found:
        await connection.execute(_DEAD_AGAIN, {"plan_id": plan_id, "part": part} | _of(failure))
    return len(found)


async def _move(connection: AsyncConnection, statement: TextClause, window: Window, *, locked: bool = False) -> _Moved:
    row = (await connection.execute(statement, _told(window) | {"upto": window.upto, "locked": locked})).one()
    return _Moved(row.taken, row.barred)


class _Isolated:
    """A batch in halves, in order, until what fails stands alone. One transaction."""

    def __init__(self, connection: AsyncConnection, window: Window, projectors: Mapping[str, Projector]) -> None:
        self._connection = connection
        self._window = window
        self._projectors = tuple(projectors.items())
        self._taken = 0
        self._over = False
        """The window is used up, or the plan's budget."""

    async def take(self, size: int) -> int:
        async with transaction(self._connection):
            await self._halve(size)
        return self._taken

    async def _halve(self, size: int) -> None:
        if self._over:
            return
        alone = size == 1
        if alone:
            # Before it is looked at: a retry of its other projection may be about to change it.
            await self._connection.execute(_LOCK, _told(self._window))
        try:
            async with savepoint(self._connection):
                statement = _statement(size, self._projectors)
                moved = await _move(self._connection, statement, self._window, locked=alone)
        except DBAPIError as error:
            if not is_the_items(error):
                raise
            if alone:
                await self._dead_again(error)
                return
            await self._halve(size // 2)
            await self._halve(size - size // 2)
            return
        self._taken += moved.taken
        self._over = moved.taken < size

    async def _dead_again(self, error: DBAPIError) -> None:
        row = (await self._connection.execute(_DEAD_AGAIN, _told(self._window) | _of(failure_of(error)))).one()
        self._taken += row.moved
        self._over = row.exceeded or not row.moved


def _of(failure: Failure) -> dict[str, Any]:
    return {"cause": failure.cause, "fingerprint": failure.fingerprint, "error": failure.error}


def _told(window: Window) -> dict[str, Any]:
    return {"plan_id": window.plan_id, "part": window.part}


@cache
def _statement(limit: int, projectors: tuple[tuple[str, Projector], ...]) -> TextClause:
    """The limit is written out: as a parameter it is taken for a tenth of the table."""
    projections = [_PROJECTION.format(name=name, due=DUE, insert=insert(f"due_{name}")) for name, insert in projectors]
    becomes = [_BECOMES.format(status=status) for status in ("delivered", "held", "retrying")]
    skipped = [_SKIPPED.format(nth=nth, which=which, why=why) for nth, (which, why) in enumerate(_WHY.items())]
    return text(
        _BATCH.format(
            of_part=OF_PART,
            limit=limit,
            names=", ".join(f"'{name}'" for name, _ in projectors),
            projections="".join(projections),
            becomes="".join(becomes),
            skipped="".join(skipped),
        )
    )
