"""Senders: so many messages of one channel on their way at once, and what became of each.

They know nothing of claims: they are given what is in hand, and what they did is settled by whoever gave it.
"""

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import structlog

from activities.notification_message import Ready
from integrations.db.notification_claims import LEASE, Claimed
from integrations.domain.ledger import WHOLE_AFTER
from integrations.domain.notification import Answer, Outgoing
from integrations.domain.verdict import Meaning
from integrations.providers.channels.channel import TIMEOUT, Channel

log = structlog.get_logger("notification")
_LATEST: Final = (LEASE - TIMEOUT).total_seconds()
"""Seconds after a claim: what is begun later might be sent by somebody else at the same time."""


async def answered(channel: Channel, outgoing: Outgoing) -> Answer:
    """What a channel makes of a message. It raises nothing; one that does all the same fails this message only."""
    try:
        return await channel.send(outgoing)
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
        # Its text may hold an address: only its place is told, and that in the log.
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error(  # noqa: TRY400 - as above
            "notification.channel_raised",
            channel=channel.name,
            kind=type(error).__name__,
            at=f"{place.name}:{place.lineno}",
        )
        why = f"the channel {channel.name} raised it: the worker's log has the place"
        return Answer(meaning=Meaning.UNKNOWN, kind=type(error).__name__, why=why)


@dataclass
class Trouble:
    """How each origin of a channel does. It outlives the senders, and the drain."""

    limit: float = WHOLE_AFTER
    """So many failures in a row, and an origin is out."""
    out: set[str] = field(default_factory=set)
    """Origins that nothing is sent to: one message tries for all."""
    in_a_row: dict[str, int] = field(default_factory=dict)
    """How many failed since something arrived."""

    def judge(self, item: Claimed, answer: Answer) -> bool:
        """Take an answer into account. Whether this message is the one that tries for all from now on."""
        origin = item.origin
        if answer.sent or answer.refused:
            # A refusal is an answer: whoever gives it is there.
            self.in_a_row.pop(origin, None)
            return False
        self.in_a_row[origin] = self.in_a_row.get(origin, 0) + 1
        if origin in self.out or self.in_a_row[origin] < self.limit:
            return False
        self.out.add(origin)
        return True


@dataclass
class Done:
    """What became of messages, until it is settled. It outlives the senders, and trouble of the database."""

    sent: list[tuple[Claimed, str]] = field(default_factory=list)
    """With the version of their templates."""
    failed: list[tuple[Claimed, Answer, bool]] = field(default_factory=list)
    """And whether it tries for all others of its origin."""
    held: list[Claimed] = field(default_factory=list)
    late: list[Claimed] = field(default_factory=list)
    """Not begun: their lease is about to end, or the process is."""

    def __bool__(self) -> bool:
        return bool(self.sent or self.failed or self.held or self.late)

    def take(self) -> "Done":
        """Everything so far, to be settled. It is empty then."""
        taken = Done(self.sent, self.failed, self.held, self.late)
        self.sent, self.failed, self.held, self.late = [], [], [], []
        return taken

    def put_back(self, taken: "Done") -> None:
        """It could not be settled: what arrived must not be sent again for that."""
        self.sent += taken.sent
        self.failed += taken.failed
        self.held += taken.held
        self.late += taken.late


class Senders:
    def __init__(self, channel: Channel, width: int, trouble: Trouble, done: Done, leaving: Callable[[], bool]) -> None:
        self._done = done
        self._leaving = leaving
        self._channel = channel
        self._width = width
        self._trouble = trouble
        self._queue: asyncio.Queue[tuple[Ready, float] | None] = asyncio.Queue(2 * width)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._sends()) for _ in range(self._width)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is on its way arrives, also when the database has trouble meanwhile. What was not begun is left."""
        if error is not None:
            while not self._queue.empty():
                self._queue.get_nowait()
        for _ in self._tasks:
            await self._queue.put(None)
        await asyncio.gather(*self._tasks)

    async def give(self, ready: Iterable[Ready], claimed_at: float) -> None:
        """Hand messages over. Waits while all senders are busy."""
        for each in ready:
            await self._queue.put((each, claimed_at))

    async def finish(self) -> None:
        """Wait until all that was handed over is done."""
        await self._queue.join()

    async def _sends(self) -> None:
        while (given := await self._queue.get()) is not None:
            ready, claimed_at = given
            item = ready.item
            if item.origin in self._trouble.out:
                self._done.held.append(item)
            elif self._leaving() or time.monotonic() - claimed_at > _LATEST:
                self._done.late.append(item)
            else:
                answer = await answered(self._channel, ready.outgoing)
                whole = self._trouble.judge(item, answer)
                if answer.sent:
                    self._done.sent.append((item, ready.version))
                else:
                    self._done.failed.append((item, answer, whole))
            self._queue.task_done()
