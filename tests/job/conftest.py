"""A job's whole way: the real worker, Temporal, Postgres and the simulator."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.domain.job import JobResult
from integrations.providers.oauth import Providers
from integrations.settings import Settings, load
from starters.client import Platform
from tests.activities.connected import connected
from tests.conftest import WEB_URL
from tests.factories import stored
from tests.providers.person import Person, somebody
from worker.plugin import runbook_plugin
from worker.wiring import build_workers

AN_HOUR_AND_MORE = 4_000


@dataclass(frozen=True)
class Jobs:
    """An account at the simulator, its connection, and the workers that its jobs need."""

    platform: Platform
    person: Person
    connection: Connection

    async def start(
        self, capability: str, *, key: str, parked_after: timedelta | None = None, **payload: Any
    ) -> WorkflowHandle[Any, JobResult]:
        return await self.platform.call(
            self.connection.id,
            capability,
            key=key,
            payload=payload,
            by="the host",
            reason="a test",
            parked_after=parked_after,
        )

    async def done(self, capability: str, *, key: str, **payload: Any) -> JobResult:
        handle = await self.start(capability, key=key, **payload)
        return await asyncio.wait_for(handle.result(), 60)

    async def status(self) -> str:
        return (await stored(self.platform.sessions, Connection, self.connection.id)).status

    async def access_token_expires(self) -> None:
        """At the provider, whose clock says when."""
        await self.person.settings(clock_skew_s=AN_HOUR_AND_MORE)

    async def written(self) -> int:
        """Notes that the provider wrote down: a repeated key is answered 200, and writes none."""
        return sum(row["status"] == 201 for row in await self.person.requests("/api/notes", "POST"))


@pytest.fixture
def settings(database_url: str, base64_key: str, simulator_url: str) -> Settings:
    told = {"database_url": database_url, "key": base64_key, "web_url": WEB_URL, "simulator_url": simulator_url}
    return load(told, environment={})


@pytest_asyncio.fixture
async def clients(time_skipping: WorkflowEnvironment) -> list[Client]:
    """Two, of the same server with its clock let alone: the provider's answers take real time."""
    address = time_skipping.client.service_client.config.target_host
    return [await Client.connect(address, plugins=[runbook_plugin()]) for _ in range(2)]


@pytest_asyncio.fixture
async def person(simulator_url: str) -> AsyncIterator[Person]:
    async for one in somebody(simulator_url):
        yield one
        await one.settings(clock_skew_s=0)


@pytest_asyncio.fixture
async def jobs(
    settings: Settings,
    engine: AsyncEngine,
    sessions: Sessions,
    vault: Vault,
    providers: Providers,
    clients: list[Client],
    person: Person,
) -> AsyncIterator[Jobs]:
    """Two workers share the queues."""
    connection = await connected(sessions, vault, providers, person)
    crews = [build_workers(client, engine, providers, {}, settings, ["simulator"]) for client in clients]
    async with working(worker for crew in crews for worker in crew):
        yield Jobs(Platform(settings, sessions, clients[0]), person, connection)


@asynccontextmanager
async def working(workers: Iterable[Worker]) -> AsyncIterator[None]:
    workers = list(workers)
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await asyncio.gather(*running)
