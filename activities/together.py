"""Group commit: what comes in while one batch is being written goes with the next, all of it in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Many tasks write one item each; few transactions do it. An idle one writes at once."""

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        """`write` answers for each item, in their order. What it raises, all of the batch hear."""
        self._write = write
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        return await future

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._write_one([item for item, _ in batch], [future for _, future in batch])
        finally:
            self._writer = None

    async def _write_one(self, items: Sequence[T], futures: Sequence[asyncio.Future[R]]) -> None:
        try:
            results = await self._write(items)
        except Exception as error:  # noqa: BLE001 - it is raised where each item is waited for
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in zip(futures, results, strict=True):
            if not future.done():
                future.set_result(result)
