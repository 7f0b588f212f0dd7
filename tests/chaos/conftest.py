"""A stack for each file, in a folder of its own: what is shot at serves nobody else."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from integrations.db.session import make_engine, make_sessions
from starters.client import Platform
from starters.stack import Stack
from tests.chaos.account import Account
from tests.chaos.ground import Ground, Provider


@pytest_asyncio.fixture(scope="module")
async def ground(reachable_folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    stack = await Stack.start(reachable_folder / request.module.__name__.rsplit(".", 1)[-1])
    engine = make_engine(stack.settings.sqlalchemy_url, pool_size=5)
    provider = Provider(stack.simulator_url)
    try:
        platform = Platform(stack.settings, make_sessions(engine), await stack.temporal_client())
        yield Ground(stack, platform, provider)
    finally:
        await provider.close()
        await engine.dispose()
        await stack.stop()


@pytest_asyncio.fixture
async def account(ground: Ground) -> Account:
    return await Account.connected(ground)
