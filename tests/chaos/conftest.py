"""A stack for each file, in a folder of its own: what is shot at serves nobody else."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from integrations.db.session import make_engine, make_sessions
from starters.client import Platform
from starters.stack import Stack
from tests.chaos.account import Account
from tests.chaos.backlog import Backlog
from tests.chaos.crew import NAMES, Crew
from tests.chaos.ground import Ground, Provider
from tests.chaos.news import News
from tests.notification.sink import Sink, receiving


@pytest_asyncio.fixture(scope="module")
async def ground(reachable_folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    folder = reachable_folder / request.module.__name__.rsplit(".", 1)[-1]
    stack = await Stack.start(folder, outside=getattr(request.module, "SETTINGS", None))
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


@pytest_asyncio.fixture(scope="module")
async def crew(ground: Ground) -> Crew:
    """The stack's worker, and another one."""
    await ground.stack.start_worker(NAMES[1])
    return Crew(ground)


@pytest_asyncio.fixture(scope="module")
async def backlog(ground: Ground) -> Backlog:
    made = Backlog(ground)
    await made.prepare()
    return made


@pytest_asyncio.fixture(scope="module")
async def couriers(ground: Ground) -> Crew:
    """The same two, by what they do for notifications."""
    await ground.stack.start_worker(NAMES[1])
    return Crew(ground, "notifications")


@pytest_asyncio.fixture
async def sink() -> AsyncIterator[Sink]:
    async with receiving() as made:
        yield made


@pytest_asyncio.fixture
async def news(ground: Ground, sink: Sink) -> News:
    """That goes to the sink."""
    made = News(ground)
    await made.goes_to(sink.url)
    return made
