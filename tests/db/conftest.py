from collections.abc import AsyncIterator

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db.dedicated import dedicated, take
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from tests.factories import add_connection


@pytest_asyncio.fixture
async def connection(sessions: Sessions) -> Connection:
    return await add_connection(sessions)


@pytest_asyncio.fixture
async def owner(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that owns every partition of an empty outbox."""
    del engine
    async with dedicated(database_url, "test") as connection:
        assert len(await take(connection, "outbox", range(16))) == 16
        yield connection
