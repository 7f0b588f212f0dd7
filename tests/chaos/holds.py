"""Holding a step still at an exact place of a transaction, so that it can be shot at there: no time is guessed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from tests.chaos.ground import Ground
from tests.chaos.waiting import until

_LOCK = {
    "connection": "SELECT 1 FROM service_connections WHERE id = $1 FOR UPDATE",
    # Its children may be inserted meanwhile.
    "state": "SELECT 1 FROM service_connections WHERE id = $1 FOR NO KEY UPDATE",
    "session": "SELECT 1 FROM service_consent_sessions WHERE id = $1 FOR UPDATE",
}
# pg_locks is read anew each time; pg_stat_activity would be frozen within our transaction.
# Of several who wait, only the first waits for us, and the second for the first.
_WAITERS = """
    WITH RECURSIVE waiting AS (
        SELECT pg_backend_pid() AS pid
        UNION SELECT l.pid FROM pg_locks l JOIN waiting w ON w.pid = ANY (pg_blocking_pids(l.pid)) WHERE NOT l.granted
    )
    SELECT count(*) - 1 FROM waiting"""
_AT_THEIR_COMMIT = "SELECT array_agg(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
# A commit that waits for its standby has not let go of its locks yet: they tell what it wrote.
_HAVING_WRITTEN = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE wait_event = 'SyncRep' AND relation = to_regclass($1) AND mode = 'RowExclusiveLock'"""


@dataclass(frozen=True)
class Lock:
    _holder: "asyncpg.Connection"

    async def is_waited_for(self, *, by: int = 1) -> None:
        """Somebody is inside a transaction and wants this row; or some."""

        async def probe() -> bool:
            return bool(await self._holder.fetchval(_WAITERS) >= by)

        await until(f"{by} wait for the row's lock", probe)


@asynccontextmanager
async def row_locked(ground: Ground, row_id: UUID, kind: str = "connection") -> AsyncIterator[Lock]:
    """Hold a row's lock: whoever changes it hangs in the middle of the transaction, before anything is written."""
    holder = await ground.connect()
    try:
        await holder.execute("BEGIN")
        await holder.execute(_LOCK[kind], row_id)
        yield Lock(holder)
    finally:
        # The server rolls back when it sees us gone; asking it to might find no server.
        holder.terminate()


@dataclass(frozen=True)
class Commits:
    _looker: "asyncpg.Connection"
    _own: int

    async def are_held(self) -> None:
        async def probe() -> bool:
            return self._own in await self._held()

        await until("the setting is in force", probe)

    async def is_waited_for(self, table: str) -> None:
        """A commit that changed this table is on disk, and its sender has not been told yet.

        Workers commit all the time what they counted and whom they serve; the one that is meant is named by its table.
        """

        async def probe() -> bool:
            return bool(await self._looker.fetchval(_HAVING_WRITTEN, table))

        await until(f"somebody waits for the answer to a commit that changed {table}", probe)

    async def _held(self) -> set[int]:
        return set(await self._looker.fetchval(_AT_THEIR_COMMIT) or ())


@asynccontextmanager
async def commits_unanswered(ground: Ground) -> AsyncIterator[Commits]:
    """Hold every commit after it was written and before its sender hears of it.

    PostgreSQL waits there for a standby, and the one that it is told to wait for does not exist.
    """
    looker, canary = await ground.connect(), await ground.connect()
    committing = asyncio.create_task(_commit_until_held(canary))
    try:
        await looker.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await looker.execute("SELECT pg_reload_conf()")
        commits = Commits(looker, canary.get_server_pid())
        await commits.are_held()
        yield commits
    finally:
        await looker.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await looker.execute("SELECT pg_reload_conf()")
        committing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await committing
        canary.terminate()
        looker.terminate()


async def _commit_until_held(connection: "asyncpg.Connection") -> None:
    """Shows when the setting has reached the other processes: then one of these does not return."""
    while True:
        await connection.execute("SELECT pg_logical_emit_message(true, 'chaos', '')")
