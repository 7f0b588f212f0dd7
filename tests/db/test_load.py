"""The database really works, or only waits, while it is looked at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import asyncpg

from integrations.db.dedicated import LOCK_CLASSES
from integrations.db.load import measured
from integrations.db.session import Sessions
from integrations.domain.scale import Load, verdict

CORES: Final = 2
SECONDS: Final = 0.6
BURNS: Final = "SELECT count(*) FROM (SELECT generate_series(1, 10000000000)) AS numbers"
SLEEPS: Final = "SELECT pg_sleep(600)"


@asynccontextmanager
async def busy(url: str, sql: str, sessions: int, *, drains: bool = False) -> AsyncIterator[None]:
    """So many sessions in a statement; with `drains` each owns a partition."""
    async with AsyncExitStack() as stack:
        running, connections = [], []
        for number in range(sessions):
            connection = await asyncpg.connect(url.replace("+asyncpg", ""))
            connections.append(connection)
            stack.callback(connection.terminate)
            if drains:
                await connection.execute(f"SELECT pg_try_advisory_lock({LOCK_CLASSES['outbox']}, {number})")
            running.append(asyncio.create_task(connection.execute(sql)))
        await asyncio.sleep(0.05)
        yield
        admin = await asyncpg.connect(url.replace("+asyncpg", ""))
        for connection in connections:
            await admin.execute("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
        await admin.close()
        await asyncio.gather(*running, return_exceptions=True)


async def looked(sessions: Sessions) -> Load:
    async with sessions() as session:
        return await measured(session, "outbox", SECONDS)


class TestADatabase:
    async def test_whose_sessions_burn_the_cpu_is_saturated(self, sessions: Sessions, database_url: str) -> None:
        async with busy(database_url, BURNS, 6):
            load = await looked(sessions)

        assert load.working > 5
        assert "is saturated" in (verdict(load, CORES, more=1) or "")
        assert load.drain_active == 0

    async def test_whose_projectors_merely_wait_has_room(self, sessions: Sessions, database_url: str) -> None:
        async with busy(database_url, SLEEPS, 6, drains=True):
            load = await looked(sessions)

        assert load.working < 1
        assert load.drain_active == 6 * load.looks
        assert load.drain_waiting == 0
        assert verdict(load, CORES, more=4) is None

    async def test_whose_drain_waits_for_a_lock_is_the_limit(self, sessions: Sessions, database_url: str) -> None:
        lock = "BEGIN; LOCK TABLE service_activity_entries IN ACCESS EXCLUSIVE MODE"
        async with busy(database_url, f"{lock}; {SLEEPS}", 1), busy(database_url, lock, 1, drains=True):
            load = await looked(sessions)

        assert (load.drain_waiting, load.waits_for) == (load.looks, "Lock:relation")
        assert "mostly Lock:relation" in (verdict(load, None, more=1) or "")

    async def test_is_looked_at_anew_each_time(self, sessions: Sessions, database_url: str) -> None:
        """What begins in the middle is seen: within a transaction the server would show its first look again."""
        looking = asyncio.create_task(looked(sessions))
        await asyncio.sleep(SECONDS / 4)
        async with busy(database_url, BURNS, 2):
            load = await looking

        assert load.working > 0.2

    async def test_tells_how_many_connections_it_still_accepts(self, sessions: Sessions, database_url: str) -> None:
        async with busy(database_url, SLEEPS, 1):
            before = await looked(sessions)
            async with busy(database_url, SLEEPS, 4):
                after = await looked(sessions)

        assert before.free_connections - after.free_connections == 4
