from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.testing import WorkflowEnvironment

from integrations.db import reconcile
from integrations.providers.oauth import Providers
from integrations.settings import Settings, load
from tests.conftest import WEB_URL
from tests.property.world import World, turning
from worker.plugin import runbook_plugin
from workflows import options


@pytest.fixture
def settings(database_url: str, base64_key: str, simulator_url: str) -> Settings:
    told = {"database_url": database_url, "key": base64_key, "web_url": WEB_URL, "simulator_url": simulator_url}
    # Many grants die here within minutes, each by its owner's own will: no surge of them is suspected.
    return load(told | {"surge_connections": 1_000_000}, environment={})


@pytest_asyncio.fixture
async def client(time_skipping: WorkflowEnvironment) -> Client:
    """The same server with its clock let alone: an owner has their fourteen days."""
    address = time_skipping.client.service_client.config.target_host
    return await Client.connect(address, plugins=[runbook_plugin()])


@pytest_asyncio.fixture
async def world(
    settings: Settings, engine: AsyncEngine, client: Client, providers: Providers, simulator_url: str
) -> AsyncIterator[World]:
    async with turning(settings, engine, client, providers, simulator_url) as turns:
        yield turns


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what only takes time: neither between two attempts, nor before a sweep looks at a row."""
    soon = RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_interval=timedelta(milliseconds=200))
    for timing in vars(options).values():
        if isinstance(timing, dict) and "retry_policy" in timing:
            monkeypatch.setitem(timing, "retry_policy", soon)
    monkeypatch.setattr(reconcile, "SETTLED", timedelta(0))
