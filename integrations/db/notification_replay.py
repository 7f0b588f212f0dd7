"""Replay of dead dispatches: taken by a plan's numbers, sent as in the flow, and counted when they are settled.

The plan's progress in a channel's partition moves in the transaction that settles: a process that dies in between has
sent messages that nobody counted, whose lease ends, and which are sent again with the same idempotency key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db import notification_claims as claims
from integrations.db import notification_flow as flow
from integrations.db.contact_addresses import OF_RECIPIENT
from integrations.db.dedicated import transaction
from integrations.db.notification_claims import CLAIMED, LEASE, Claimed, claimed_of
from integrations.db.notification_flow import Settled
from integrations.db.replay import OF_PART, note
from integrations.domain.ledger import Failure
from integrations.domain.notification import CHANNELS
from integrations.domain.replay import Window

_LINE: Final = "line.plan_id = :plan_id AND line.part = cast(:part AS smallint)"
_CHOSEN: Final = f"""
SELECT n, item_id, item.status, coalesce(item.status = 'processing' AND item.plan_id = :plan_id, false) AS lost
FROM service_replay_items AS line LEFT JOIN LATERAL (
  SELECT status, plan_id FROM service_notification_dispatches AS item WHERE item.id = line.item_id LIMIT 1
) AS item ON true WHERE {_LINE}
  AND n > (SELECT upto FROM service_replay_progress WHERE {OF_PART}) AND n <= :upto
  AND EXISTS (SELECT FROM service_replay_plans AS plan WHERE plan.id = :plan_id AND plan.status = 'running'
    AND plan.max_failures >= (SELECT sum(dead) FROM service_replay_progress AS far WHERE far.plan_id = :plan_id))
ORDER BY n LIMIT {{limit}}
"""  # noqa: S608 - ours
_TAKE: Final = text(f"""
WITH claimed AS (
  UPDATE service_notification_dispatches AS item SET status = 'processing', token = :token, plan_id = :plan_id,
    lease_until = now() + cast(:lease AS interval), address_id = coalesce(
      (SELECT id FROM service_contact_addresses AS address
        WHERE {OF_RECIPIENT.format(recipient="item.recipient", channel="item.channel")}), address_id)
  WHERE id = ANY(:ids) AND status IN ('dead', 'nobody') RETURNING *
) {CLAIMED}
""")  # noqa: S608 - ours
_MOVE: Final = text(f"""
UPDATE service_replay_progress SET upto = :to, delivered = delivered + :delivered, skipped = skipped + :skipped,
  dead = dead + :dead
WHERE {OF_PART} AND upto = :from AND delivered + skipped + dead + :count <= total RETURNING plan_id
""")  # noqa: S608 - ours
_REACHED: Final = text(f"SELECT upto FROM service_replay_progress WHERE {OF_PART}")  # noqa: S608 - ours
_NEXT_OF_ALL: Final = text("""
SELECT plan.id AS plan_id, progress.upto, next.n FROM service_replay_plans AS plan
JOIN service_replay_progress AS progress ON progress.plan_id = plan.id AND progress.part = :part
CROSS JOIN LATERAL (
  SELECT item_id, n FROM service_replay_items AS item
  WHERE item.plan_id = plan.id AND item.part = progress.part AND item.n > progress.upto ORDER BY item.n LIMIT 1
) AS next
WHERE plan.ledger = 'notifications' AND plan.status = 'running' AND next.item_id = :item_id
""")
_SKIPPED: Final = {
    None: "its row is gone",
    "pending": "in the flow again",
    "processing": "in the flow again",
    "held": "in the flow again: held while nothing arrives where it goes to",
    "retrying": "in the flow again: its own workflow tries it",
    "dropped": "old news: dropped before",
    "dead": "its event is gone",
    "nobody": "its event is gone",
}
"""Of those that were delivered already nothing is written down."""
_UNTRIED: Final = "not tried: its turn came too late, or nothing arrived where it goes to"


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch of a replay in hand."""

    after: int
    """The plan's progress before it."""
    upto: int
    numbers: dict[UUID, int]
    """Each item's place in the plan."""
    claimed: list[Claimed]
    skipped: dict[UUID, str | None]
    """With their status."""


async def take(connection: AsyncConnection, window: Window, limit: int) -> Taken:
    """Take the next items of a plan. Committed when this returns: what is dead is in hand, anything else is skipped."""
    told = {"plan_id": window.plan_id, "part": window.part}
    async with transaction(connection):
        after = int((await connection.execute(_REACHED, told)).scalar_one())
        rows = (await connection.execute(text(_CHOSEN.format(limit=limit)), told | {"upto": window.upto})).all()
        # What an attempt before had in hand, whose process is gone: its lease ends soon, and the plan waits for that.
        chosen = list(takewhile(lambda row: not row.lost, rows))
        ids = [row.item_id for row in chosen if row.status in {"dead", "nobody"}]
        claim = told | {"ids": ids, "token": uuid4(), "lease": LEASE}
        claimed = [claimed_of(row) for row in await connection.execute(_TAKE, claim)] if ids else []
    mine = {item.id for item in claimed}
    numbers = {row.item_id: row.n for row in chosen}
    skipped = {row.item_id: row.status for row in chosen if row.item_id not in mine}
    return Taken(after, max(numbers.values(), default=after), numbers, claimed, skipped)


async def settle(
    connection: AsyncConnection,
    window: Window,
    taken: Taken,
    sent: Sequence[tuple[Claimed, str]],
    unsent: Sequence[Settled],
    untried: Sequence[Claimed],
) -> int:
    """Write down what became of a batch, and move the plan on. How many items have an outcome now.

    `untried`: in hand for too long, or nothing arrives where it goes to. It is dead, as before.
    A plan that has ended meanwhile, or was moved on by somebody else, is left as it is; what was sent is settled.
    """
    if not taken.numbers:
        return 0
    told = {"plan_id": window.plan_id, "part": window.part}
    delivered, notes = len(sent), list[tuple[int, str, str]]()
    for item_id, status in taken.skipped.items():
        if status != "delivered":
            notes.append((taken.numbers[item_id], "skipped", _SKIPPED.get(status, f"it is {status}")))
    notes += [(taken.numbers[item.id], "skipped", _UNTRIED) for item in untried]
    dead = 0
    for each in unsent:
        again = each.status in {"dead", "nobody"}
        dead += again
        notes.append((taken.numbers[each.item.id], "dead" if again else "skipped", each.failure.error))
    counts = {"delivered": delivered, "dead": dead, "skipped": len(taken.numbers) - delivered - dead}
    async with transaction(connection):
        await flow.sent(connection, window.part, CHANNELS[window.part], sent)
        await flow.settle(connection, unsent, by=f"replay:{window.plan_id}")
        await flow.give_back(connection, untried)
        moved = await connection.execute(
            _MOVE, told | counts | {"from": taken.after, "to": taken.upto, "count": len(taken.numbers)}
        )
        if moved.scalar() is None:
            return 0
        await note(connection, window.plan_id, window.part, notes)
    return len(taken.numbers)


async def give_up(connection: AsyncConnection, part: int, item_id: UUID, failure: Failure) -> int:
    """Count an item as dead again without trying it, in each replay whose next one it is. How many those are."""
    found = (await connection.execute(_NEXT_OF_ALL, {"part": part, "item_id": item_id})).all()
    for row in found:
        told: dict[str, Any] = {"plan_id": row.plan_id, "part": part}
        async with transaction(connection):
            item = await claims.claim_suspect(connection, item_id)
            if item is not None:
                await flow.settle(connection, [Settled(item, "dead", failure, tried=True)], by=f"replay:{row.plan_id}")
            counts = {"delivered": 0, "skipped": 0, "dead": 1, "count": 1, "from": row.upto, "to": row.n}
            if (await connection.execute(_MOVE, told | counts)).scalar() is not None:
                await note(connection, row.plan_id, part, [(row.n, "dead", failure.error)])
    return len(found)
