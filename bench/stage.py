"""Where a benchmark plays: one embedded stack in a folder of its own, for the product and for its bound."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
from temporalio.client import Client

from bench.measure import Advance
from bench.watch import Watcher, watching
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.db.vault import Vault
from starters.embedded.down import down, remove
from starters.embedded.location import locate
from starters.embedded.process import Command, GuardedProcess
from starters.stack import Stack

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Stage:
    """A running stack, and what the driver reaches it with."""

    stack: Stack
    sessions: Sessions
    temporal: Client
    http: httpx.AsyncClient
    scale: float
    advance: Advance
    _open: AsyncExitStack

    @property
    def dsn(self) -> str:
        """The database, as asyncpg itself takes it."""
        return self.stack.settings.sqlalchemy_url.replace("+asyncpg", "")

    @property
    def vault(self) -> Vault:
        return Vault(self.stack.settings.keys)

    async def watch(self, sql: str, tick: float) -> Watcher:
        return await self._open.enter_async_context(watching(self.dsn, sql, tick))

    async def start(self, module: str, *arguments: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Start `python -m bench.MODULE` in a process of its own, which ends with the stage."""
        environment = self.stack.environment | {"PYTHONPATH": str(CHECKOUT), "BENCH_DSN": self.dsn}
        argv = [sys.executable, "-m", f"bench.{module}", *arguments]
        log = self.stack.logs() / f"{module}.log"
        process = GuardedProcess.start(Command(module, argv, log, environment))
        self._open.push_async_callback(process.stop)
        await process.wait_until_ready(ready, timeout=60)

    async def start_bare(self, module: str) -> None:
        """Start a bound's worker. It makes the schema `bench`."""
        database = await asyncpg.connect(self.dsn)

        async def has_begun() -> bool:
            return await database.fetchval("SELECT to_regclass('bench.step')") is not None

        try:
            await self.start(module, ready=has_begun)
        finally:
            await database.close()

    async def restart_worker(self, **environment: str) -> None:
        """Have a worker with other settings."""
        self.stack.environment.update(environment)
        await self.stack.processes["worker"].stop()
        await self.stack.start_worker()


@contextlib.asynccontextmanager
async def staged(scale: float, advance: Advance) -> AsyncIterator[Stage]:
    """A fresh stack, gone afterwards: what one benchmark leaves behind slows no other down."""
    folder = locate(purpose="bench")
    await _cleared(folder)
    try:
        async with AsyncExitStack() as opened:
            stack = await Stack.start(folder)
            opened.push_async_callback(stack.stop)
            # As a worker has it, which is who announces.
            engine = make_engine(stack.settings.sqlalchemy_url, ask_first=False)
            opened.push_async_callback(engine.dispose)
            http = await opened.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60.0))
            await _rarely_checkpointed(stack.settings.sqlalchemy_url.replace("+asyncpg", ""))
            client = await stack.temporal_client()
            yield Stage(stack, make_sessions(engine), client, http, scale, advance, opened)
    finally:
        await _cleared(folder)


async def _rarely_checkpointed(dsn: str) -> None:
    """A checkpoint would hit whichever of the two is at it. What is committed is on the disk all the same."""
    database = await asyncpg.connect(dsn)
    for setting in ("max_wal_size = '16GB'", "checkpoint_timeout = '30min'"):
        await database.execute(f"ALTER SYSTEM SET {setting}")
    await database.execute("SELECT pg_reload_conf()")
    await database.close()


async def _cleared(folder: Path) -> None:
    """Nothing of an earlier run, also of one that was killed."""
    await asyncio.to_thread(down, folder)
    await asyncio.to_thread(remove, folder)
