"""How another platform's rate limits and outages do harm by mistake, as triggers. Of its list of pitfalls:

| W16 | a failure of what keeps the rate limit's state has a completed call made again | here |
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client

from integrations.db import mitigations
from integrations.db.outage_tables import Mitigation
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.db.vault import Vault
from integrations.domain.job import JobResult
from integrations.domain.outage import Brake, Cut, Target
from integrations.providers.oauth import Providers
from integrations.settings import Settings
from starters.client import Platform
from starters.embedded.ports import free_port
from tests.activities.connected import connected
from tests.factories import every
from tests.job.conftest import Jobs, working
from tests.job.waiting import attempts, failed_once
from tests.outage_rows import add_outage
from tests.providers.person import Person
from worker.recorder import Recorder, recording
from worker.wiring import build_workers

Without = Callable[[str], AbstractAsyncContextManager[None]]
STATE = "service_mitigations"


async def circuit(sessions: Sessions) -> None:
    """Of what a job writes with, which lets one call through every ten seconds."""
    outage_id = await add_outage(sessions)
    cut = Cut(target=Target(provider_id="simulator", brake=Brake.CIRCUIT, name="notes.write"), rate=0.1)
    async with sessions.begin() as session:
        await mitigations.put(session, outage_id, [cut], timedelta(minutes=2), reason="5xx", by="the test")


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
    simulator_url: str,
    engine: AsyncEngine,
    sessions: Sessions,
    vault: Vault,
    providers: Providers,
    client: Client,
    person: Person,
    unwritable: Recorder,
) -> AsyncIterator[Jobs]:
    """No call of theirs can be recorded."""
    connection = await connected(sessions, vault, providers, person)
    recorded = Providers(providers.catalog, providers._http, unwritable)
    async with working(build_workers(client, engine, recorded, {}, settings, ["simulator"])):
        knowing = settings.model_copy(update={"simulator_url": simulator_url})
        yield Jobs(Platform(knowing, sessions, client), person, connection)


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


class TestACallThatIsDone:
    """W16."""

    async def test_is_not_made_again_when_its_limit_can_be_neither_read_nor_written_any_more(
        self, jobs: Jobs, sessions: Sessions, without: Without, unwritable: Recorder
    ) -> None:
        await circuit(sessions)
        # The note is written down at once, and the answer is on its way for a second or two.
        await jobs.person.breaks(kind="drip", path="/api/notes", bytes_per_s=100, count=1)
        handle = await jobs.start("notes.write", key="invoice-7", text="hi")
        async with asyncio.timeout(20):
            while not await jobs.person.requests("/api/notes", "POST"):
                await asyncio.sleep(0.02)

        async with without(STATE):
            result: JobResult = await asyncio.wait_for(handle.result(), 30)

        assert (result.done, result.status) == (True, 201)
        assert await attempts(handle) == 1
        assert len(await jobs.person.requests("/api/notes", "POST")) == 1
        assert await jobs.written() == 1
        [row] = await every(sessions, Mitigation)
        assert row.admitted_at is not None
        # Nor did it wait for the recorder, which has it still.
        assert len(unwritable._waiting) == 1


class TestACallBeforeWhichItsLimitCannotBeRead:
    async def test_is_not_made_and_made_once_later(self, jobs: Jobs, sessions: Sessions, without: Without) -> None:
        await circuit(sessions)
        async with without(STATE):
            handle = await jobs.start("notes.write", key="invoice-8", text="hi")
            async with asyncio.timeout(20):
                while not await failed_once(handle):
                    await asyncio.sleep(0.05)
            assert await jobs.person.requests("/api/notes", "POST") == []

        result: JobResult = await asyncio.wait_for(handle.result(), 60)

        assert result.done
        assert len(await jobs.person.requests("/api/notes", "POST")) == 1
