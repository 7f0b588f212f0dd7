"""Seeing from outside that something has happened: one small query every few milliseconds, for all that is awaited."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg


class Watcher:
    """`sql` takes an array of ids and returns those for which it has happened; `tick` is seconds between two looks."""

    def __init__(self, connection: "asyncpg.Connection[Any]", sql: str, tick: float) -> None:
        self._connection = connection
        self._sql = sql
        self._tick = tick
        self._waiting: dict[UUID, asyncio.Event] = {}
        self._wanted = asyncio.Event()

    async def seen(self, key: UUID) -> None:
        event = self._waiting[key] = asyncio.Event()
        self._wanted.set()
        await event.wait()

    async def run(self) -> None:
        look = await self._connection.prepare(self._sql)
        while True:
            await self._wanted.wait()
            for (key,) in await look.fetch(list(self._waiting)):
                self._waiting.pop(key).set()
            if not self._waiting:
                self._wanted.clear()
            await asyncio.sleep(self._tick)


@contextlib.asynccontextmanager
async def watching(dsn: str, sql: str, tick: float) -> AsyncIterator[Watcher]:
    connection = await asyncpg.connect(dsn)
    watcher = Watcher(connection, sql, tick)
    looking = asyncio.create_task(watcher.run())
    try:
        yield watcher
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await connection.close()
