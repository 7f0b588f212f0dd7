from collections.abc import AsyncIterator

import pytest_asyncio

from tests.providers.person import Person, somebody


@pytest_asyncio.fixture
async def person(simulator_url: str) -> AsyncIterator[Person]:
    async for one in somebody(simulator_url):
        yield one
