"""Holding a step still at an exact place, so that it can be shot at there: no time is guessed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import httpx
from temporalio.client import WorkflowHandle

from tests.chaos.ground import Ground, until

_LOCK = {
    "connection": "SELECT 1 FROM service_connections WHERE id = $1 FOR UPDATE",
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
_AT_THE_COMMIT = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid <> $1"
NOBODY = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
SLOW = 50
"""Bytes a second: a token's answer, some 300 bytes, takes 6 s. The call itself gives up after 8."""


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
    _probe: int

    async def is_waited_for(self) -> None:
        """Somebody's commit is on disk, and its sender has not been told yet."""

        async def probe() -> bool:
            return bool(await self._looker.fetchval(_AT_THE_COMMIT, self._probe))

        await until("somebody waits for the answer to a commit", probe)


@asynccontextmanager
async def commits_unanswered(ground: Ground) -> AsyncIterator[Commits]:
    """Hold every commit after it was written and before its sender hears of it.

    PostgreSQL waits there for a standby, and the one that it is told to wait for does not exist.
    """
    looker, first = await ground.connect(), await ground.connect()
    await looker.execute(NOBODY)
    await looker.fetchval("SELECT pg_reload_conf()")
    commits = Commits(looker, first.get_server_pid())
    waiting = asyncio.create_task(_commit_until_held(first))
    try:
        own = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $1"

        async def in_force() -> bool:
            return bool(await looker.fetchval(own, first.get_server_pid()))

        await until("the setting is in force", in_force)
        yield commits
    finally:
        await looker.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await looker.fetchval("SELECT pg_reload_conf()")
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        looker.terminate()
        first.terminate()


async def _commit_until_held(connection: "asyncpg.Connection") -> None:
    """Commits of our own show when the setting has reached the other processes: one of them does not return."""
    while True:
        await connection.execute("SELECT pg_logical_emit_message(true, 'chaos', '')")


@asynccontextmanager
async def request_held(ground: Ground, *paths: str) -> AsyncIterator[None]:
    """Let requests to some paths hang at the provider, which handles nothing of them; cut them at the end."""
    await ground.provider.fault(kind="hang", path=list(paths))
    try:
        yield
    finally:
        await ground.provider.lift()


@asynccontextmanager
async def answer_slow(ground: Ground) -> AsyncIterator[None]:
    """Let the provider handle a code at once and answer byte by byte: used up there, and not yet known here."""
    await ground.provider.fault(kind="drip", path="/oauth/token", bytes_per_s=SLOW, count=1)
    try:
        yield
    finally:
        await ground.provider.lift()


async def arrived(ground: Ground) -> None:
    await until("a request hangs at the provider", ground.provider.holds_a_request)


async def was_handled(ground: Ground, code: int) -> None:
    """The provider has used up a code, the nth that it saw."""

    async def probe() -> bool:
        seen = await ground.provider.codes()
        return len(seen) > code and seen[code]["status"] == httpx.codes.OK

    await until("the provider used the code up", probe)


async def failed_once(handle: WorkflowHandle, activity: str) -> None:  # type: ignore[type-arg]
    """An attempt of this activity has failed, and the next one is due."""

    async def probe() -> bool:
        pending = (await handle.describe()).raw_description.pending_activities
        return any(each.activity_type.name == activity and each.attempt > 1 for each in pending)

    await until(f"an attempt of {activity} has failed", probe)
