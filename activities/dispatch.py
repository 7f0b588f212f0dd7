"""A dispatcher at work: it owns partitions of a ledger and moves their items until there is a reason to stop.

 look ──▶ holds that are over ──▶ batches of what is pending, by partition ──▶ replays ──▶ nothing? wait a little
   ▲                                                                                                │
   └────────────────────────────────────────────────────────────────────────────────────────────────┘

It waits for work to arrive by looking: rows are how anybody tells it something.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db import dispatchers
from integrations.db.dedicated import take
from integrations.db.dispatchers import Seat
from integrations.db.trouble import timed_out
from integrations.domain.ledger import Failure, partitions_of, tenth
from integrations.domain.outbox import Batch, Drained, Pair

log = structlog.get_logger("dispatch")
IDLE: Final = 0.2
"""Seconds between two looks when there is nothing to do: half of it is what an event waits at most times."""
_TURN: Final = 1.0
"""Seconds after which it looks around also in a backlog: for another scale, holds that are over, a replay."""
_TAKE_AGAIN: Final = 1.0
_BEAT: Final = 1.0
_IDLE_BEAT: Final = 5.0
_LONG: Final = 5 * 60.0
"""Seconds after which it ends by itself: the workflow's history shows that it lives, and another worker may go on."""
_SLOW: Final = 2.0
"""Seconds of a batch after which the next are a tenth: it must end before anybody loses patience with it."""
_GROWS_AFTER: Final = 10
_STARTS: Final = 10
"""Workflows that are being started at once."""
_SUSPECT: Final = Failure.of("Crash", "alone in its batch, and the process ended without a word each time")
_TOO_SLOW: Final = Failure.of("Timeout", "alone in its batch, and the database gave up on it")


class Ledger(Protocol):
    """What a ledger does with a batch. Each call is one transaction on the dispatcher's own connection."""

    async def batch(self, connection: AsyncConnection, part: int, limit: int) -> Batch: ...
    async def released(self, connection: AsyncConnection, part: int, limit: int) -> Batch: ...
    async def replay(self, connection: AsyncConnection, parts: set[int], limit: int) -> int: ...
    async def next_one(self, connection: AsyncConnection, part: int, *, released: bool) -> UUID | None: ...
    async def set_aside(self, connection: AsyncConnection, item_id: UUID, failure: Failure) -> Batch: ...


@dataclass
class Dispatch:
    seat: Seat
    ledger: Ledger
    connection: AsyncConnection
    start: Callable[[Pair], Awaitable[None]]
    """Starts the workflow of what left the flow. What it does not start, reconcile does."""
    leaving: Callable[[], bool]
    """Whether the process is about to end."""
    full: int
    parts: set[int] = field(default_factory=set)
    items: int = 0
    _batch: int = 0
    _good: int = 0
    _told: int = 0
    _beat_at: float = 0.0
    _took_at: float = 0.0
    _starting: set[asyncio.Task[None]] = field(default_factory=set)
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_STARTS))

    async def run(self, *, briefly: bool) -> Drained:
        """Work until the partitions are dealt anew, the process ends, or it has been long enough.

        `briefly`: after trouble. End as soon as something went well, so that the next trouble is met afresh.
        Raises DBAPIError when the database has trouble.
        """
        self._batch, suspect = await self.seat.take(self.connection, self.full)
        dealt = (await dispatchers.look(self.connection, self.seat.ledger, ())).dispatchers
        wanted = set(partitions_of(self.seat.number, dealt)) if self.seat.number < dealt else set()
        began, why = time.monotonic(), ""
        while not why:
            await self._take(wanted)
            if suspect is not None and self.parts == wanted:
                await self._follow_up(await self.ledger.set_aside(self.connection, suspect, _SUSPECT))
                suspect = None
            looked = await dispatchers.look(self.connection, self.seat.ledger, self.parts)
            busy = await self._turn(looked)
            await self._beat(busy=busy)
            if looked.dispatchers != dealt:
                why = f"the partitions are dealt anew, to {looked.dispatchers}"
            elif self.leaving():
                why = "the worker is being stopped"
            elif time.monotonic() - began > (_IDLE_BEAT if briefly else _LONG) or (briefly and self.items):
                why = "it works again" if briefly else "it has been long enough"
            elif not busy:
                await asyncio.sleep(IDLE)
        await self.seat.leave(self.connection, self.items - self._told)
        return Drained(dispatchers=looked.dispatchers, items=self.items, why=why)

    async def started(self, within: float) -> None:
        """Wait for the workflows that are being started."""
        if self._starting:
            _, late = await asyncio.wait(self._starting, timeout=within)
            for task in late:
                task.cancel()

    async def _take(self, wanted: set[int]) -> None:
        """Take the partitions that are ours and still somebody else's, now and then."""
        if self.parts != wanted and time.monotonic() - self._took_at > _TAKE_AGAIN:
            self._took_at = time.monotonic()
            self.parts |= await take(self.connection, self.seat.ledger, sorted(wanted - self.parts))

    async def _turn(self, looked: dispatchers.Look) -> bool:
        """What there is to do, for a second at most. Whether there was anything."""
        busy = False
        for part in looked.released:
            busy |= bool(await self._moved(part, released=True))
        ends, pending = time.monotonic() + _TURN, looked.pending
        while pending and time.monotonic() < ends and not self.leaving():
            pending = [part for part in pending if await self._moved(part) >= self._batch]
            busy = True
        if not pending:
            # Live traffic first.
            replayed = await self.ledger.replay(self.connection, self.parts, self._batch)
            self.items += replayed
            busy |= bool(replayed)
        return busy

    async def _moved(self, part: int, *, released: bool = False) -> int:
        """One batch, of what is pending or of what is held back no more. How many: less than a batch was all."""
        size = self._batch
        if size == 1:
            # Written down before it is tried: should the process end now, the next one knows what ended it.
            alone = await self.ledger.next_one(self.connection, part, released=released)
            await self.seat.suspect(self.connection, alone)
        began = time.monotonic()
        move = self.ledger.released if released else self.ledger.batch
        try:
            moved = await move(self.connection, part, size)
        except DBAPIError as error:
            if not timed_out(error):
                raise
            moved = await self._too_slow(part, size, released=released)
        else:
            self._resize(time.monotonic() - began)
        await self._follow_up(moved)
        return moved.taken

    async def _too_slow(self, part: int, size: int, *, released: bool) -> Batch:
        self._batch, self._good = tenth(size), 0
        alone = await self.ledger.next_one(self.connection, part, released=released) if size == 1 else None
        if alone is None:
            return Batch(taken=size)
        return await self.ledger.set_aside(self.connection, alone, _TOO_SLOW)

    def _resize(self, seconds: float) -> None:
        if seconds > _SLOW:
            self._batch, self._good = tenth(self._batch), 0
            return
        self._good += 1
        if self._batch < self.full and self._good >= _GROWS_AFTER and seconds < _SLOW / _GROWS_AFTER:
            self._batch, self._good = min(self.full, self._batch * 10), 0

    async def _follow_up(self, moved: Batch) -> bool:
        self.items += moved.taken
        for pair in moved.failed:
            task = asyncio.create_task(self._start(pair))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        return bool(moved.taken)

    async def _start(self, pair: Pair) -> None:
        async with self._gate:
            await self.start(pair)

    async def _beat(self, *, busy: bool) -> None:
        now = time.monotonic()
        if now - self._beat_at > (_BEAT if busy else _IDLE_BEAT):
            await self.seat.beat(self.connection, self.parts, self._batch, self.items - self._told)
            self._beat_at, self._told = now, self.items
