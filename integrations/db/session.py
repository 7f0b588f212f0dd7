"""The engine. Nothing connects until the first statement."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

R = TypeVar("R")
Sessions = async_sessionmaker[AsyncSession]
Executor = AsyncConnection | AsyncSession
"""Whatever runs a statement: a pooled session, or a dispatcher's own connection."""
_FROZEN = "20000"
"""Milliseconds: a process that is stopped in the middle of a transaction must not keep a connection's row for ever."""


def make_engine(url: str, *, pool_size: int = 20, ask_first: bool = True) -> AsyncEngine:
    """An engine over asyncpg. `url` starts with postgresql+asyncpg://.

    Statement parameters never appear in errors or logs: some of them are ciphertext and hashes. `ask_first`: see that a
    pooled connection still lives before it is used, one round trip each time. Whoever is retried anyway needs no such
    question: the first statement that fails empties the pool.
    """
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=ask_first,
        # The connection that was used last has its statements prepared.
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={"timeout": 10, "server_settings": {"idle_in_transaction_session_timeout": _FROZEN}},
    )


def make_sessions(engine: AsyncEngine) -> Sessions:
    # What a statement changes is read anew where it matters; finding out for each object in a session costs more.
    return async_sessionmaker(engine, expire_on_commit=False, execution_options={"synchronize_session": False})


async def once_more(work: Callable[[], Awaitable[R]]) -> R:
    """Do it again, at once, when its connection broke: for what cannot be had a second time, and is safe to repeat.

    Whatever takes longer is Temporal's to retry.
    """
    try:
        return await work()
    except DBAPIError:
        return await work()
