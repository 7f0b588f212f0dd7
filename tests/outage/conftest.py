"""Jobs behind an outage's brakes: two of the production's workers, with everything in them real."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client

from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.db.vault import Vault
from integrations.providers.oauth import Providers
from integrations.settings import Settings
from starters.client import Platform
from starters.embedded.ports import free_port
from tests.activities.connected import connected
from tests.job.conftest import Jobs, clients, person, settings, working
from tests.providers.person import Person
from worker.recorder import Recorder, recording
from worker.wiring import build_workers

__all__ = ["clients", "person", "settings"]

Without = Callable[[str], AbstractAsyncContextManager[None]]


@pytest_asyncio.fixture
async def unwritable() -> AsyncIterator[Recorder]:
    """A recorder whose database is not there."""
    nowhere = make_engine(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/nowhere")
    async with recording(make_sessions(nowhere)) as recorder:
        yield recorder
    await nowhere.dispose()


@pytest_asyncio.fixture
async def jobs(
    settings: Settings,
    engine: AsyncEngine,
    sessions: Sessions,
    vault: Vault,
    providers: Providers,
    clients: list[Client],
    person: Person,
    unwritable: Recorder,
) -> AsyncIterator[Jobs]:
    """Two workers share the queues; no call of theirs can be recorded."""
    connection = await connected(sessions, vault, providers, person)
    recorded = Providers(providers.catalog, providers._http, unwritable)
    crews = [build_workers(client, engine, recorded, {}, settings, ["simulator"]) for client in clients]
    async with working(worker for crew in crews for worker in crew):
        yield Jobs(Platform(settings, sessions, clients[0]), person, connection)


@pytest.fixture
def without(engine: AsyncEngine) -> Without:
    """For so long every statement about a table fails."""

    @asynccontextmanager
    async def gone(table: str) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.execute(text(f"ALTER TABLE {table} RENAME TO {table}_gone"))
        try:
            yield
        finally:
            async with engine.begin() as connection:
                await connection.execute(text(f"ALTER TABLE {table}_gone RENAME TO {table}"))

    return gone
