"""Group commit: what comes in while one batch is being written goes with the next, all of it in one transaction."""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Many tasks write one item each; few transactions do it, one after another. An idle one writes at once.

    Whoever is cancelled takes his item along, unless its batch has begun: then he does not know what becomes of it.
    """

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, largest: int = sys.maxsize) -> None:
        """`write` answers for each item, in their order. What it raises, all of the batch hear."""
        self._write = write
        self._largest = largest
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        try:
            return await future
        finally:
            # An error's traceback holds this frame, and its future the error: what failed would stay until somebody
            # collects cycles, which is seldom here.
            del future

    async def _write_all(self) -> None:
        try:
            while batch := self._next():
                await self._write_one([item for item, _ in batch], [future for _, future in batch])
                del batch
        finally:
            # By itself and not by a callback: whoever comes between the two would find a writer that writes no more.
            self._writer = None

    def _next(self) -> list[tuple[T, "asyncio.Future[R]"]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < self._largest:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _write_one(self, items: Sequence[T], futures: Sequence[asyncio.Future[R]]) -> None:
        try:
            results = await self._write(items)
        except Exception as error:  # noqa: BLE001 - it is raised where each item is waited for
            _fail(futures, error)
            del futures  # As above.
            return
        for future, result in zip(futures, results, strict=True):
            if not future.done():
                future.set_result(result)


def _fail(futures: Sequence["asyncio.Future[R]"], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
