from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db.dedicated import dedicated, take
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_handlers import Handling
from integrations.db.webhook_ingress import Deliveries, opened
from tests.webhook.given import KEY, WATCHED


@pytest_asyncio.fixture
async def owner(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that owns every partition of an empty ledger, with a dispatcher's settings."""
    del engine
    settings = {"enable_hashjoin": "off", "enable_mergejoin": "off"}
    async with dedicated(database_url, "test", **settings) as connection:
        assert len(await take(connection, "webhooks", range(16))) == 16
        yield connection


@pytest_asyncio.fixture
async def ingress(engine: AsyncEngine, database_url: str) -> AsyncIterator[Deliveries]:
    """Where verified deliveries come in."""
    del engine
    async with opened(database_url) as deliveries:
        yield deliveries


@pytest.fixture
def handling() -> Handling:
    return Handling(WATCHED, KEY)


@pytest.fixture
def flow(handling: Handling) -> Flow:
    return Flow(handling)
