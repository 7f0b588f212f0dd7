"""Replay of dead webhook deliveries: the drain with another claim, each handled as in the flow, and marked as replayed.

A batch is one transaction on the connection that has the partition's lock: effects, settles, and the plan's progress.
That progress is also the fence: a plan that has ended has cut its total to what has an outcome, and a batch that comes
late moves nothing, so that none of it is committed.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.dedicated import savepoint, transaction
from integrations.db.outbox_trouble import APPEND
from integrations.db.replay import OF_PART, note
from integrations.db.webhook_coalescing import supersede
from integrations.db.webhook_events import lock_owners
from integrations.db.webhook_handlers import TOGETHER
from integrations.db.webhook_notices import COLUMNS, notified
from integrations.db.webhook_outcome import Outcome
from integrations.db.webhook_trouble import failure_in
from integrations.domain.ledger import Failure
from integrations.domain.replay import Window

# Locked: whoever ends the plan waits for this batch, and this batch for whoever ends it.
_REACHED: Final = text(f"""
SELECT upto, delivered + skipped + dead AS had, total, (
  SELECT max_failures - (SELECT sum(dead) FROM service_replay_progress AS far WHERE far.plan_id = plan.id)
  FROM service_replay_plans AS plan WHERE plan.id = :plan_id AND plan.status = 'running') AS budget
FROM service_replay_progress WHERE {OF_PART} FOR UPDATE
""")  # noqa: S608 - ours
_LINES: Final = f"""
SELECT n, item_id FROM service_replay_items WHERE {OF_PART} AND n > :after AND n <= :upto ORDER BY n LIMIT {{limit}}
"""  # noqa: S608 - ours
# In one order: two that lock several wait for each other in none.
_ITEMS: Final = text(f"""
SELECT status, {COLUMNS} FROM service_webhook_deliveries WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
""")  # noqa: S608 - ours
_SETTLE: Final = text("""
UPDATE service_webhook_deliveries AS item SET status = 'delivered', settled_at = now(), lease_until = NULL,
  handled_as = told.handled_as, woken = least(woken + 1, 32767)
FROM unnest(cast(:ids AS uuid[]), cast(:words AS text[])) AS told (id, handled_as)
WHERE item.id = told.id AND item.status = 'dead'
""")
_DEAD_AGAIN: Final = text(f"""
UPDATE service_webhook_deliveries SET cause = :cause, fingerprint = :fingerprint, error = cast(:error AS text),
  failed_at = now(), attempts = attempts + 1, woken = least(woken + 1, 32767),
  history = {APPEND}jsonb_build_object('at', now(), 'attempt', attempts + 1,
    'by', cast(:by AS text), 'error', cast(:error AS text))
WHERE id = :id AND status = 'dead'
""")  # noqa: S608 - ours
_MOVE: Final = text(f"""
UPDATE service_replay_progress SET upto = :to, delivered = delivered + :delivered, skipped = skipped + :skipped,
  dead = dead + :dead
WHERE {OF_PART}
""")  # noqa: S608 - ours
_NEXT_OF_ALL: Final = text("""
SELECT plan.id AS plan_id, progress.part, next.n FROM service_replay_plans AS plan
JOIN service_replay_progress AS progress ON progress.plan_id = plan.id
CROSS JOIN LATERAL (
  SELECT item_id, n FROM service_replay_items AS item
  WHERE item.plan_id = plan.id AND item.part = progress.part AND item.n > progress.upto ORDER BY item.n LIMIT 1
) AS next
WHERE plan.ledger = 'webhooks' AND plan.status = 'running' AND next.item_id = :item_id
""")
_SKIPPED: Final = {
    None: "its row is gone",
    "pending": "in the flow again: the provider sent it once more",
    "retrying": "in the flow again: its own workflow tries it",
    "coalesced": "a later change of its resource was handled in its place",
}
"""Of those that were delivered already nothing is written down."""


class Handle(Protocol):
    """What is done about one delivery, within the caller's transaction.

    Its rows have the columns of `COLUMNS`. Raises whatever keeps it from being done.
    """

    def __call__(self, connection: AsyncConnection, row: Row[Any], /, *, replayed: bool) -> Awaitable[Outcome]: ...


@dataclass
class _Outcomes:
    """What became of a batch so far."""

    upto: int
    done: dict[UUID, str] = field(default_factory=dict)
    """Delivered, with what each was handled as."""
    skipped: int = 0
    dead: int = 0
    notes: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.done) + self.skipped + self.dead


async def batch(connection: AsyncConnection, window: Window, limit: int, handle: Handle) -> int:
    """Replay up to `limit` items of a plan in one partition, in order. How many have an outcome now; 0: nothing.

    An item that fails is dead again and no other suffers from it; after more of them than the plan allows, no more are
    taken. Raises DBAPIError when the database has trouble: then nothing of the batch was committed.
    """
    told = _told(window)
    async with transaction(connection):
        reached = (await connection.execute(_REACHED, told)).one()
        if reached.budget is None or reached.budget < 0:
            return 0
        # A plan that has ended has no room left.
        limit = min(limit, reached.total - reached.had)
        span = told | {"after": reached.upto, "upto": window.upto}
        lines = (await connection.execute(text(_LINES.format(limit=limit)), span)).all()
        if not lines:
            return 0
        known = await connection.execute(_ITEMS, {"ids": [line.item_id for line in lines]})
        items = {item.id: item for item in known}
        found = await _handled(connection, window, _together(lines, items), items, reached.budget, handle)
        await _settle(connection, told, found)
    return found.count


def _together(lines: Sequence[Row[Any]], items: Mapping[UUID, Row[Any]]) -> Sequence[Row[Any]]:
    """The first of these lines that are handled in one transaction: what ends a grant is so alone, as in the flow."""
    alone = [
        n for n, line in enumerate(lines) if line.item_id in items and items[line.item_id].reaction not in TOGETHER
    ]
    return lines[: max(alone[0], 1)] if alone else lines


async def _handled(
    connection: AsyncConnection,
    window: Window,
    lines: Sequence[Row[Any]],
    items: dict[UUID, Row[Any]],
    budget: int,
    handle: Handle,
) -> _Outcomes:
    found = _Outcomes(lines[0].n)
    dead = [items[line.item_id] for line in lines if line.item_id in items and items[line.item_id].status == "dead"]
    past = await supersede(connection, dead)
    # All of them before the first: who locks several does so in the order of their ids.
    await lock_owners(connection, [notice for item in dead if item.id not in past for notice in notified(item)])
    for line in lines:
        found.upto = line.n
        item = items.get(line.item_id)
        if item is None or item.status != "dead" or item.id in past:
            found.skipped += 1
            status = None if item is None else "coalesced" if item.id in past else item.status
            if status != "delivered":
                found.notes.append((line.n, "skipped", _SKIPPED[status]))
            continue
        try:
            async with savepoint(connection):
                outcome = await handle(connection, item, replayed=True)
        except Exception as error:
            failure = failure_in(error)
            if failure is None:
                raise
            await connection.execute(_DEAD_AGAIN, _again(item.id, window.plan_id, failure))
            found.dead += 1
            found.notes.append((line.n, "dead", failure.error))
            if found.dead > budget:
                break
            continue
        if outcome.waits:
            # What it wrote stays: that it is counted as one of a surge, and that operators are called.
            found.skipped += 1
            found.notes.append((line.n, "skipped", f"not tried: {outcome.waits}"))
        else:
            found.done[item.id] = outcome.handled_as
    return found


async def _settle(connection: AsyncConnection, told: dict[str, Any], found: _Outcomes) -> None:
    if found.done:
        await connection.execute(_SETTLE, {"ids": list(found.done), "words": list(found.done.values())})
    counts = {"delivered": len(found.done), "skipped": found.skipped, "dead": found.dead, "to": found.upto}
    await connection.execute(_MOVE, told | counts)
    await note(connection, told["plan_id"], told["part"], found.notes)


async def give_up(connection: AsyncConnection, item_id: UUID, failure: Failure) -> int:
    """Count a delivery as dead again without trying it, in each replay whose next one it is. How many those are.

    It ended the process, or the database gave up on it, each time it was tried alone.
    """
    found = (await connection.execute(_NEXT_OF_ALL, {"item_id": item_id})).all()
    for row in found:
        told = {"plan_id": row.plan_id, "part": row.part}
        async with transaction(connection):
            reached = (await connection.execute(_REACHED, told)).one()
            if reached.had < reached.total:
                await connection.execute(_DEAD_AGAIN, _again(item_id, row.plan_id, failure))
                await _settle(connection, told, _Outcomes(upto=row.n, dead=1, notes=[(row.n, "dead", failure.error)]))
    return len(found)


def _again(item_id: UUID, plan_id: UUID, failure: Failure) -> dict[str, Any]:
    told = {"cause": failure.cause, "fingerprint": failure.fingerprint, "error": failure.error}
    return told | {"id": item_id, "by": f"replay:{plan_id}"}


def _told(window: Window) -> dict[str, Any]:
    return {"plan_id": window.plan_id, "part": window.part}
