import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db.dedicated import dedicated, take
from integrations.db.session import Sessions, make_engine
from integrations.db.tables import Connection
from tests.factories import add_connection


@pytest_asyncio.fixture
async def empty_database(postgres_server: str) -> AsyncIterator[AsyncEngine]:
    """A database of this test alone, without a table."""
    name = f"runbook_test_empty_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f'CREATE DATABASE "{name}"')
    engine = make_engine(
        make_url(postgres_server)
        .set(drivername="postgresql+asyncpg", database=name)
        .render_as_string(hide_password=False)
    )
    yield engine
    await engine.dispose()
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


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
