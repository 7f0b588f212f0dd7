"""One of the production's workers, with everything in it real, in a hurry: an outage's half hour is half a minute."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from integrations import task_queues, temporal
from integrations.db.session import Sessions
from integrations.domain.outage import OURS, Limits
from integrations.providers.http import make_client, make_renewing_client
from integrations.providers.oauth import Providers
from integrations.settings import Settings, load
from integrations.task_queues import Kept, Rates, provider_queue
from tests.outage.ground import Ground
from tests.providers.person import Person, somebody
from tests.refresh.conftest import connected
from tests.refresh.ground import at_several
from worker.recorder import recording
from worker.wiring import build_workers

SERVED: Final = ["simulator", "small", "large", "slow"]
TENANTS: Final = tuple(f"acme-{number}" for number in range(5))
HURRY: Final = Limits(
    every=timedelta(seconds=2),
    window=timedelta(seconds=10),
    lease=timedelta(seconds=10),
    probe_first=timedelta(seconds=2),
    probe_most=timedelta(seconds=6),
    probes=2,
    step=timedelta(seconds=2),
    step_calls=5,
    step_quiet=timedelta(seconds=5),
)


@pytest_asyncio.fixture
async def person(simulator_url: str) -> AsyncIterator[Person]:
    async for one in somebody(simulator_url):
        yield one


@pytest_asyncio.fixture
async def client(time_skipping: WorkflowEnvironment) -> Client:
    return await connected(time_skipping)


@pytest_asyncio.fixture
async def settings(database_url: str, base64_key: str) -> Settings:
    told = {"database_url": database_url, "key": base64_key}
    hurry = {f"outage_{name}": getattr(HURRY, name) for name in HURRY.model_fields_set}
    return load(told | hurry, environment={})


@pytest.fixture
def family(request: pytest.FixtureRequest) -> str | None:
    """Of all providers but the simulator's own entry. None: each is one of its own."""
    return getattr(request, "param", None)


@pytest_asyncio.fixture
async def ground(
    time_skipping: WorkflowEnvironment,
    client: Client,
    engine: AsyncEngine,
    sessions: Sessions,
    settings: Settings,
    providers: Providers,
    person: Person,
    family: str | None,
) -> AsyncIterator[Ground]:
    several = at_several(providers, *SERVED[1:], family=family)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(make_client())
        many = await stack.enter_async_context(make_renewing_client())
        recorder = await stack.enter_async_context(recording(sessions))
        calling = Providers(several.catalog, http, recorder)
        renewing = Providers(several.catalog, many, recorder)
        own = await connected(time_skipping)
        workers = build_workers(own, engine, calling, {}, settings, SERVED, renewing)
        running = asyncio.gather(*(worker.run() for worker in workers))
        yield Ground(client, sessions, person.http, settings)
        await person.heals()
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await running


@pytest_asyncio.fixture
async def detector(ground: Ground) -> AsyncIterator[None]:
    handle = await temporal.start_detector(ground.client)
    yield
    await handle.terminate()
    await ground.ends(*(f"outage:{each}" for each in [*SERVED, OURS]), *(f"refresh:{each}" for each in SERVED))
    # The server is the session's: a test that failed half-way must not leave its brakes to the others.
    ours = Kept(weights={f"org:{each}": None for each in TENANTS})
    for each in SERVED:
        await task_queues.limit(
            ground.client, provider_queue(each), Rates(None), ours, reason="the test is over", changed=True
        )
