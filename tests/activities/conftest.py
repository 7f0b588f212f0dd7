from collections.abc import AsyncIterator

import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from integrations.db.session import Sessions
from integrations.db.tables import Connection
from tests.activities.told import Told
from tests.factories import add_connection
from tests.providers.person import Person, somebody


@pytest_asyncio.fixture
async def person(simulator_url: str) -> AsyncIterator[Person]:
    async for one in somebody(simulator_url):
        yield one


@pytest_asyncio.fixture
async def connection(sessions: Sessions) -> Connection:
    return await add_connection(sessions)


@pytest_asyncio.fixture
async def told(time_skipping: WorkflowEnvironment) -> AsyncIterator[Told]:
    found = Told(time_skipping)
    yield found
    await found.close()
