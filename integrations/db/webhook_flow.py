"""The flow of webhook deliveries: claimed, handled and settled in one transaction by whoever owns their partition.

What is claimed needs no mark: nobody else claims there, and whoever dies leaves it `pending`. Deliveries that become
events are handled as a set, the last change of each resource in the place of those before; the others one by one. A
set that fails is done again in halves, until what fails stands alone and leaves the flow.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db import automation, replay, webhook_replay
from integrations.db import webhook_brake as brake
from integrations.db.dedicated import transaction
from integrations.db.webhook_coalescing import fold, leads, supersede
from integrations.db.webhook_handlers import TOGETHER, Handling, session_on
from integrations.db.webhook_notices import COLUMNS
from integrations.db.webhook_trouble import failure_in, leave_flow, locked, settle
from integrations.domain.automation import FailureMode
from integrations.domain.ledger import WHOLE_AFTER, Failure
from integrations.domain.outbox import Batch
from integrations.domain.reauth import Detection
from integrations.domain.replay import Window
from integrations.domain.webhook import LEDGER, Left, Reaction, WebhookStatus

FollowUp = Left | Detection
"""What a batch leaves to a workflow: a delivery that failed, or a detection to be announced."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DUE: Final = f"""
SELECT {COLUMNS} FROM service_webhook_deliveries
WHERE status = 'pending' AND part = cast(:part AS smallint) AND due_at >= :after AND due_at <= now()
ORDER BY due_at LIMIT {{limit}}
"""  # noqa: S608 - ours
_ONE: Final = text(f"SELECT {COLUMNS} FROM service_webhook_deliveries WHERE id = :id AND status = 'pending'")  # noqa: S608


class Flow:
    """What moves through one dispatcher's partitions. It remembers how many in a row failed at each handler."""

    def __init__(self, handling: Handling) -> None:
        self._handling = handling
        self.failed_in_a_row = dict.fromkeys(Reaction, 0)

    async def batch(self, connection: AsyncConnection, part: int, limit: int, after: int = 0) -> Batch[FollowUp]:
        """Handle the next deliveries of a partition that are due. What fails leaves the flow, the others go on.

        `after`: where the last batch ended, in microseconds since 1970: what has been settled is not walked through
        again. Nothing is taken while the platform may not act by itself. Raises DBAPIError when the database has
        trouble: what is not settled by then is as it was.
        """
        if await self._held(connection):
            return Batch(taken=0, upto=after)
        due = await _due(connection, part, limit, after)
        if not due:
            return Batch(taken=0, upto=after)
        follow = [
            found
            for reaction, rows in self._grouped(due)
            for found in await self._move(connection, part, reaction, rows)
        ]
        return Batch(taken=len(due), failed=tuple(follow), upto=(due[-1].due_at - _EPOCH) // _MICROSECOND)

    async def next_one(self, connection: AsyncConnection, part: int, after: int = 0) -> UUID | None:
        """The delivery that a batch of one would handle."""
        due = [] if await self._held(connection) else await _due(connection, part, 1, after)
        if not due:
            return None
        [row] = due
        [lead] = await leads(connection, due) if self._handling.reaction(row) is Reaction.EVENT else due
        return UUID(str(lead.id))

    async def released(self, connection: AsyncConnection, part: int, limit: int) -> Batch[FollowUp]:
        """Let go on what was held back behind a delivery that is settled by now. It is due, and comes by a batch."""
        del limit
        return Batch(taken=await brake.go_on(connection, part))

    async def next_released(self, connection: AsyncConnection, part: int) -> UUID | None:
        """Nothing is handled then."""
        del connection, part
        return None

    async def set_aside(self, connection: AsyncConnection, item_id: UUID, failure: Failure) -> Batch[FollowUp]:
        """Take away what ended the process each time: its own workflow tries it, and nothing else with it.

        In a replay it is dead again.
        """
        if await webhook_replay.give_up(connection, item_id, failure):
            return Batch(taken=1)
        row = (await connection.execute(_ONE, {"id": item_id})).one_or_none()
        if row is None:
            return Batch(taken=0)
        left = await self._leave(connection, self._handling.reaction(row), row, failure)
        return Batch(taken=1, failed=tuple(left))

    async def windows(self, connection: AsyncConnection, parts: set[int]) -> list[Window]:
        """What plans want to be replayed of these partitions by now."""
        found = await replay.windows(connection, LEDGER, parts)
        return [] if not found or await self._held(connection) else found

    async def replay(self, connection: AsyncConnection, window: Window, limit: int) -> int:
        """Replay up to `limit` deliveries. How many have an outcome now. What they detect is left to reconcile."""
        return await webhook_replay.batch(connection, window, limit, self._handling.handle)

    async def next_replayed(self, connection: AsyncConnection, window: Window) -> UUID | None:
        """The delivery that a replay of one would take."""
        return await replay.next_one(connection, window)

    async def sample(self, connection: AsyncConnection) -> None:
        """Nobody asks for rates between two moments: deliveries are counted by the hour that they came in."""

    async def _held(self, connection: AsyncConnection) -> bool:
        async with session_on(connection) as session:
            return await automation.why_not(session, FailureMode.WEBHOOK) is not None

    def _grouped(self, rows: Sequence[Row[Any]]) -> list[tuple[Reaction, list[Row[Any]]]]:
        groups: dict[Reaction, list[Row[Any]]] = {}
        for row in rows:
            groups.setdefault(self._handling.reaction(row), []).append(row)
        return list(groups.items())

    async def _move(
        self, connection: AsyncConnection, part: int, reaction: Reaction, rows: list[Row[Any]]
    ) -> list[FollowUp]:
        """Handle deliveries of one reaction, as a set where that is how its handler works."""
        if reaction in await brake.braked(connection, part):
            # All of them, and not the last change of each resource alone: what stays due would be met again at once.
            await brake.hold_back(connection, [row.id for row in rows])
            return []
        if reaction is Reaction.EVENT:
            rows = await leads(connection, rows)
        sets = [rows] if reaction in TOGETHER else [[row] for row in rows]
        return [found for some in sets for found in await self._isolated(connection, part, reaction, some)]

    async def _isolated(
        self, connection: AsyncConnection, part: int, reaction: Reaction, rows: list[Row[Any]]
    ) -> list[FollowUp]:
        if reaction in await brake.braked(connection, part):
            await brake.hold_back(connection, [row.id for row in rows])
            return []
        try:
            return await self._handled(connection, reaction, rows)
        except Exception as error:
            failure = failure_in(error)
            if failure is None:
                raise
        if len(rows) == 1:
            return await self._leave(connection, reaction, rows[0], failure)
        middle = len(rows) // 2
        return [
            *await self._isolated(connection, part, reaction, rows[:middle]),
            *await self._isolated(connection, part, reaction, rows[middle:]),
        ]

    async def _handled(self, connection: AsyncConnection, reaction: Reaction, rows: list[Row[Any]]) -> list[FollowUp]:
        """Effect and settle: one transaction."""
        async with transaction(connection):
            waiting = await locked(connection, [row.id for row in rows], WebhookStatus.PENDING)
            past = await supersede(connection, waiting)
            await fold(connection, waiting, past)
            mine = [row for row in waiting if row.id not in past]
            if not mine:
                return []
            outcomes = await self._handling.react(connection, mine, replayed=False)
            await settle(connection, outcomes, WebhookStatus.PENDING)
        self.failed_in_a_row[reaction] = 0
        return [Detection(detection_id=found) for outcome in outcomes.values() for found in outcome.detections]

    async def _leave(
        self, connection: AsyncConnection, reaction: Reaction, row: Row[Any], failure: Failure
    ) -> list[FollowUp]:
        """It stays the last change of its resource, so that those before it are over with."""
        async with transaction(connection):
            await fold(connection, await locked(connection, [row.id], WebhookStatus.PENDING), {})
            left = await leave_flow(connection, row, reaction, failure)
            if left is None:
                return []
            self.failed_in_a_row[reaction] += 1
            if self.failed_in_a_row[reaction] >= WHOLE_AFTER:
                # The handler itself is broken: this one tries for all, and the others wait without a workflow each.
                await brake.put_on(connection, reaction, row.id)
        return [left]


async def _due(connection: AsyncConnection, part: int, limit: int, after: int) -> Sequence[Row[Any]]:
    told = {"part": part, "after": _EPOCH + after * _MICROSECOND}
    return (await connection.execute(text(_DUE.format(limit=limit)), told)).all()
