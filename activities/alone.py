"""One at a time in a process, of what may end it: whatever else is in hand when it ends would be laid to its charge."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final
from weakref import WeakKeyDictionary

from integrations.domain.outbox import DeliveryStep
from integrations.domain.webhook import HandleStep

_TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]] = WeakKeyDictionary()


def alone() -> asyncio.Lock:
    """The turn of this process, for all ledgers together. It has one event loop; tests have several."""
    return _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def turn(step: DeliveryStep | HandleStep) -> AbstractAsyncContextManager[None]:
    """Its turn, where an attempt may end the process."""
    return alone() if step.alone else nullcontext()
