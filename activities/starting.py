"""Starting the workflows of what left a flow, a few at once, beside the flow. What is not started, reconcile starts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_AT_ONCE: Final = 10


class Starting(Generic[T]):
    def __init__(self, start: Callable[[T], Awaitable[None]]) -> None:
        """`start` raises nothing for a Temporal that does not answer."""
        self._start = start
        self._under_way: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def begin(self, wanted: T) -> None:
        task = asyncio.create_task(self._begin(wanted))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def done(self, within: float) -> None:
        """Wait for those that are under way, for so many seconds."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=within)
            for task in late:
                task.cancel()

    async def _begin(self, wanted: T) -> None:
        async with self._gate:
            await self._start(wanted)
