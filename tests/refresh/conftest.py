"""Two of the production's workers, with everything in them real, at four providers that are the same simulator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from integrations.db.session import make_engine
from integrations.providers.http import make_client, make_renewing_client
from integrations.providers.oauth import Providers
from integrations.settings import load
from tests.providers.person import Person, somebody
from tests.refresh.ground import at_several
from worker.plugin import runbook_plugin
from worker.wiring import build_workers

SERVED = ["simulator", "small", "large", "slow"]


@pytest_asyncio.fixture
async def person(simulator_url: str) -> AsyncIterator[Person]:
    async for one in somebody(simulator_url):
        yield one


@pytest_asyncio.fixture
async def client(time_skipping: WorkflowEnvironment) -> Client:
    return await connected(time_skipping)


async def connected(env: WorkflowEnvironment) -> Client:
    """To the server with its clock let alone: what is promised within a minute is looked at by the minute."""
    return await Client.connect(env.client.service_client.config.target_host, plugins=[runbook_plugin()])


@dataclass(frozen=True)
class Working:
    """A worker's catalog: a test may alter what it says of a provider."""

    providers: Providers


@pytest_asyncio.fixture
async def working(
    time_skipping: WorkflowEnvironment, engine: AsyncEngine, providers: Providers, database_url: str, base64_key: str
) -> AsyncIterator[Working]:
    settings = load({"database_url": database_url, "key": base64_key}, environment={})
    several = at_several(providers, *SERVED[1:])
    async with AsyncExitStack() as stack:
        workers = []
        for number in range(2):
            own = engine if number == 0 else make_engine(database_url, ask_first=False)
            if number:
                stack.push_async_callback(own.dispose)
            http = await stack.enter_async_context(make_client())
            many = await stack.enter_async_context(make_renewing_client())
            # One client serves one worker of a queue.
            own_client = await connected(time_skipping)
            own_providers, renewing = Providers(several.catalog, http), Providers(several.catalog, many)
            workers += build_workers(own_client, own, own_providers, {}, settings, SERVED, renewing)
        running = asyncio.gather(*(worker.run() for worker in workers))
        yield Working(several)
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await running
