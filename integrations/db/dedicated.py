"""A connection of its own: it holds the locks of the partitions whose batches run on it.

No lock, no batch. A killed owner's connection closes, and frees them at once; a frozen one's is ended by the server,
which voids whatever it still wanted to write when it wakes up.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

LOCK_CLASSES: Final = {"outbox": 0x6F757462, "notifications": 0x6E6F7469, "webhooks": 0x77656268}
"""The first half of each ledger's advisory locks; the second is the partition. `pg_locks` shows both."""
_SETTINGS: Final = {
    # A stopped process says nothing: its locks must not outlive it for long. A living one asks every second.
    "idle_session_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "statement_timeout": "60s",
    # A killed owner's statement must not go on without it, and keep its locks until it is done.
    "client_connection_check_interval": "1s",
    # A machine that vanished closes no socket.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    # Plans are made while next to nothing is pending, and kept when a million are: no scan of a whole table, and no
    # sorting of a whole backlog, is ever right here.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    # The statements are long, and their batches short.
    "jit": "off",
}


@asynccontextmanager
async def dedicated(url: str, name: str, **settings: str) -> AsyncIterator[AsyncConnection]:
    """A connection outside every pool, each statement its own transaction.

    `name` is what `pg_stat_activity` shows; `settings` are the server's, beside those of all such connections.
    """
    engine = create_async_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": 10, "server_settings": {"application_name": name, **_SETTINGS, **settings}},
    )
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def take(connection: AsyncConnection, ledger: str, parts: Iterable[int]) -> set[int]:
    """Those of the partitions that are ours now. The others are somebody else's still."""
    sql = text("SELECT part FROM unnest(cast(:parts AS int[])) AS part WHERE pg_try_advisory_lock(:class, part)")
    return set((await connection.execute(sql, {"parts": list(parts), "class": LOCK_CLASSES[ledger]})).scalars())


@asynccontextmanager
async def transaction(connection: AsyncConnection) -> AsyncIterator[None]:
    """Several statements as one. Raises DBAPIError when the connection is gone: nothing of it was committed."""
    await connection.execute(_BEGIN)
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            await connection.execute(_ROLLBACK)
        raise
    await connection.execute(_COMMIT)


@asynccontextmanager
async def savepoint(connection: AsyncConnection) -> AsyncIterator[None]:
    """A part of a transaction that may fail by itself: with any exception nothing of it is kept."""
    await connection.execute(_SAVEPOINT)
    try:
        yield
    except Exception:
        if not connection.invalidated:
            await connection.execute(_ROLLBACK_TO)
        raise
    finally:
        if not connection.invalidated:
            await connection.execute(_RELEASE)


_BEGIN, _COMMIT, _ROLLBACK = text("BEGIN"), text("COMMIT"), text("ROLLBACK")
_SAVEPOINT, _ROLLBACK_TO, _RELEASE = text("SAVEPOINT s"), text("ROLLBACK TO SAVEPOINT s"), text("RELEASE SAVEPOINT s")
