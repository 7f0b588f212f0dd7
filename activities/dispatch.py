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
from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.alone import alone
from activities.starting import Starting
from integrations.db import dispatchers
from integrations.db.dedicated import take
from integrations.db.dispatchers import Look, Seat
from integrations.db.trouble import timed_out
from integrations.domain.ledger import SUSPECTED, Failure, partitions_of, tenth
from integrations.domain.outbox import Batch, Drained
from integrations.domain.replay import Window

T = TypeVar("T")
FollowUp = TypeVar("FollowUp")
"""What a ledger leaves to a workflow."""
_IDLE: Final = 0.4
"""Seconds between two looks when there is nothing to do: half of it is what an event waits at most times."""
_SOON: Final = 0.05
"""Seconds, in the first second after a step of a replay or a hold that ended: what goes on by steps waits less."""
_TURN: Final = 1.0
"""Seconds after which it looks around also in a backlog: for another scale, holds that are over, a replay."""
_TAKE_AGAIN: Final = 1.0
_BEAT: Final = 1.0
_IDLE_BEAT: Final = 5.0
_LONG: Final = 5 * 60.0
"""Seconds after which it ends by itself: the workflow's history shows that it lives, and another worker may go on."""
_KILLED: Final = 15.0
"""Seconds, after one that was killed: by then another process has its workflow."""
_SAMPLE: Final = 10.0
"""Seconds between two looks at how the ledger stands, which the first dispatcher takes for all."""
_SLOW: Final = 2.0
"""Seconds of a batch after which the next are a tenth: it must end before anybody loses patience with it."""
_GROWS_AFTER: Final = 10
"""Good batches of each partition: as much as the one that was too large, whose item in trouble is among these."""
_TOO_SLOW: Final = Failure.of("Timeout", "alone in its batch, and the database gave up on it")


class Ledger(Protocol[FollowUp]):
    """What a ledger does with a batch. Each call is one transaction on the dispatcher's own connection."""

    async def batch(self, connection: AsyncConnection, part: int, limit: int, after: int) -> Batch[FollowUp]: ...
    async def released(self, connection: AsyncConnection, part: int, limit: int) -> Batch[FollowUp]: ...
    async def next_released(self, connection: AsyncConnection, part: int) -> UUID | None: ...
    async def windows(self, connection: AsyncConnection, parts: set[int]) -> list[Window]: ...
    async def replay(self, connection: AsyncConnection, window: Window, limit: int) -> int: ...
    async def next_replayed(self, connection: AsyncConnection, window: Window) -> UUID | None: ...
    async def next_one(self, connection: AsyncConnection, part: int, after: int) -> UUID | None: ...
    async def set_aside(self, connection: AsyncConnection, item_id: UUID, failure: Failure) -> Batch[FollowUp]: ...
    async def sample(self, connection: AsyncConnection) -> None: ...


@dataclass
class Dispatch(Generic[FollowUp]):
    seat: Seat
    ledger: Ledger[FollowUp]
    connection: AsyncConnection
    start: Callable[[FollowUp], Awaitable[None]]
    """Starts the workflow of what left the flow. What it does not start, reconcile does."""
    leaving: Callable[[], bool]
    """Whether the process is about to end."""
    full: int
    parts: set[int] = field(default_factory=set)
    items: int = 0
    """Taken out of the backlog."""
    _batch: int = 0
    _good: int = 0
    _suspecting: bool = False
    """Whether its seat names an event that stood alone."""
    _told: int = 0
    _after: dict[int, int] = field(default_factory=dict)
    """Where the next batch of each partition begins to look."""
    _beat_at: float = 0.0
    _took_at: float = 0.0
    _sampled_at: float = 0.0
    _stepped_at: float = 0.0

    def __post_init__(self) -> None:
        self._starting = Starting(self.start)

    async def run(self, *, again: bool) -> Drained:
        """Work until the partitions are dealt anew, the process ends, or it has been long enough.

        `again`: not the first attempt. Then it ends as soon as something went well, so that the next trouble is met
        afresh; after a process that was killed a little later, since its workflow waits for that process at first.
        Raises DBAPIError when the database has trouble.
        """
        found = await self.seat.take(self.connection, self.full)
        self._batch, suspect, briefly = found.batch, found.suspect, again and not found.lost
        dealt = (await dispatchers.look(self.connection, self.seat.ledger, ())).dispatchers
        wanted = set(partitions_of(self.seat.number, dealt)) if self.seat.number < dealt else set()
        long = _LONG if not again else _KILLED if found.lost else _IDLE_BEAT
        began, why = time.monotonic(), "" if wanted else f"there are to be {dealt}"
        looked = Look(dealt, [], [])
        while not why:
            await self._take(wanted)
            if suspect is not None and self.parts == wanted:
                self._follow_up(await self.ledger.set_aside(self.connection, suspect, SUSPECTED))
                suspect = None
            looked = await dispatchers.look(self.connection, self.seat.ledger, self.parts)
            busy = await self._turn(looked)
            await self._beat(busy=busy)
            if looked.dispatchers != dealt:
                why = f"the partitions are dealt anew, to {looked.dispatchers}"
            elif self.leaving():
                why = "the worker is being stopped"
            elif time.monotonic() - began > long or (briefly and self.items):
                why = "it works again" if again else "it has been long enough"
            elif not busy:
                await asyncio.sleep(_SOON if time.monotonic() - self._stepped_at < _TURN else _IDLE)
        await self.seat.leave(self.connection, self.items - self._told)
        return Drained(dispatchers=looked.dispatchers, items=self.items, why=why)

    async def started(self, within: float) -> None:
        """Wait for the workflows that are being started."""
        await self._starting.done(within)

    async def _take(self, wanted: set[int]) -> None:
        """Take the partitions that are ours and still somebody else's, now and then."""
        if self.parts != wanted and time.monotonic() - self._took_at > _TAKE_AGAIN:
            self._took_at = time.monotonic()
            self.parts |= await take(self.connection, self.seat.ledger, sorted(wanted - self.parts))

    async def _turn(self, looked: Look) -> bool:
        """What there is to do, for a second at most. Whether there is more.

        A few events that came one by one are no backlog: those of the next moment are taken together.
        """
        stepped = False
        for part in looked.released:
            stepped |= await self._released(part)
        ends, pending = time.monotonic() + _TURN, looked.pending
        # Each turn begins in front: what is committed late has an earlier place.
        self._after = dict.fromkeys(pending, 0)
        while pending and time.monotonic() < ends and not self.leaving():
            pending = [part for part in pending if await self._moved(part)]
        if not pending:
            # Live traffic first.
            for window in await self.ledger.windows(self.connection, self.parts):
                stepped |= await self._replayed(window)
        if stepped:
            self._stepped_at = time.monotonic()
        return stepped or bool(pending)

    async def _moved(self, part: int) -> bool:
        """One batch. Whether there may be more."""
        size, after = self._batch, self._after[part]
        moved = await self._tried(
            lambda: self.ledger.next_one(self.connection, part, after),
            lambda: self.ledger.batch(self.connection, part, size, after),
        )
        if moved is None:
            return True
        self._after[part] = moved.upto
        self.items += moved.taken
        self._follow_up(moved)
        return moved.taken >= size

    async def _released(self, part: int) -> bool:
        """One batch of what is held back no more. Whether anything came of it."""
        size = self._batch
        moved = await self._tried(
            lambda: self.ledger.next_released(self.connection, part),
            lambda: self.ledger.released(self.connection, part, size),
        )
        if moved is None:
            return True
        self._follow_up(moved)
        return bool(moved.taken)

    async def _replayed(self, window: Window) -> bool:
        """One batch of a replay. Whether anything came of it."""
        size = self._batch
        taken = await self._tried(
            lambda: self.ledger.next_replayed(self.connection, window),
            lambda: self.ledger.replay(self.connection, window, size),
        )
        return taken != 0

    async def _tried(
        self, next_one: Callable[[], Awaitable[UUID | None]], move: Callable[[], Awaitable[T]]
    ) -> T | None:
        """Move a batch. None when the database gave up on it: the next are smaller, or what stood alone is away."""
        if self._batch > 1:
            return await self._move(None, move)
        async with alone():
            return await self._move(await next_one(), move)

    async def _move(self, suspect: UUID | None, move: Callable[[], Awaitable[T]]) -> T | None:
        if suspect is not None or self._suspecting:
            # Written down before it is tried: should the process end now, the next one knows what ended it. What went
            # well is suspected no more: a larger batch that ends the process would be laid to its charge.
            await self.seat.suspect(self.connection, suspect)
            self._suspecting = suspect is not None
        began = time.monotonic()
        try:
            moved = await move()
        except DBAPIError as error:
            if not timed_out(error):
                raise
            self._batch, self._good = tenth(self._batch), 0
            if suspect is not None:
                self._follow_up(await self.ledger.set_aside(self.connection, suspect, _TOO_SLOW))
            return None
        self._resize(time.monotonic() - began)
        return moved

    def _resize(self, seconds: float) -> None:
        if seconds > _SLOW:
            self._batch, self._good = tenth(self._batch), 0
            return
        self._good += 1
        over_with = self._good >= _GROWS_AFTER * len(self.parts)
        if self._batch < self.full and over_with and seconds < _SLOW / _GROWS_AFTER:
            self._batch, self._good = min(self.full, self._batch * 10), 0

    def _follow_up(self, moved: Batch[FollowUp]) -> None:
        for each in moved.failed:
            self._starting.begin(each)

    async def _beat(self, *, busy: bool) -> None:
        now = time.monotonic()
        if now - self._beat_at > (_BEAT if busy or self.items != self._told else _IDLE_BEAT):
            await self.seat.beat(self.connection, self.parts, self._batch, self.items - self._told)
            self._beat_at, self._told = now, self.items
        if self.seat.number == 0 and now - self._sampled_at > _SAMPLE:
            await self.ledger.sample(self.connection)
            self._sampled_at = now
