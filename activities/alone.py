"""One at a time in a process, of what may end it: whatever else is in hand when it ends would be laid to its charge."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from integrations.domain.outbox import DeliveryStep
from integrations.domain.webhook import HandleStep

_LONG: Final = 1.0
"""Seconds. Who has had his turn for so long ends nothing at once: it hangs, and nobody waits for it any more."""


@dataclass
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    since: float = 0.0


_TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn]] = WeakKeyDictionary()
"""The one of this process, for all ledgers together. It has one event loop; tests have several."""


@asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """Its turn in this process."""
    turn, mine = _TURNS.setdefault(asyncio.get_running_loop(), _Turn()), False
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, turn.since + _LONG - time.monotonic()) if turn.lock.locked() else None):
            mine = await turn.lock.acquire()
    if mine:
        turn.since = time.monotonic()
    try:
        yield
    finally:
        if mine:
            turn.lock.release()


def turn(step: DeliveryStep | HandleStep) -> AbstractAsyncContextManager[None]:
    """Its turn, where an attempt may end the process."""
    return alone() if step.alone else nullcontext()
