"""What is held back waits in its queue and uses up nothing; who is not held back does not notice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio
from temporalio.client import Client, WorkflowHandle

from activities.brakes import Brakes
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.job import JobResult
from integrations.domain.outage import Brake, Cut, Target
from integrations.providers.oauth import Providers
from tests.activities.connected import connected
from tests.job.conftest import Jobs
from tests.job.waiting import attempts
from tests.outage_rows import add_outage

Hold = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture
async def outage_id(sessions: Sessions) -> UUID:
    return await add_outage(sessions)


@pytest_asyncio.fixture
async def release(sessions: Sessions, clients: list[Client], outage_id: UUID) -> AsyncIterator[Hold]:
    """Take off what is on. Whatever becomes of a test: the queue is everybody's."""

    async def released() -> None:
        await Brakes(sessions).release(clients[0], outage_id, by="the test", reason="healed")

    yield released
    await released()


@pytest_asyncio.fixture
async def hold(sessions: Sessions, clients: list[Client], outage_id: UUID, release: Hold) -> Hold:
    del release

    async def put_on(brake: Brake, rate: float, name: str = "") -> None:
        cut = Cut(target=Target(provider_id="simulator", brake=brake, name=name), rate=rate)
        told = {"reason": "503", "by": "the test"}
        await Brakes(sessions).put_on(clients[0], outage_id, [cut], timedelta(minutes=2), **told)

    return put_on


async def ended(handle: WorkflowHandle[Any, JobResult], within: float) -> JobResult:
    return await asyncio.wait_for(handle.result(), within)


class TestAQueue:
    async def test_holds_jobs_back_and_loses_none(self, jobs: Jobs, hold: Hold, release: Hold) -> None:
        await hold(Brake.QUEUE, 0)
        handles = [await jobs.start("notes.write", key=f"k{n}", text=f"{n}") for n in range(5)]
        await asyncio.sleep(1.5)
        assert await jobs.person.requests("/api/notes") == []

        await release()

        assert all([(await ended(handle, 20)).done for handle in handles])
        assert {await attempts(handle) for handle in handles} == {1}
        assert await jobs.written() == 5

    async def test_lets_out_as_many_as_it_says(self, jobs: Jobs, hold: Hold) -> None:
        await hold(Brake.QUEUE, 1)
        handles = [await jobs.start("notes.write", key=f"k{n}", text=f"{n}") for n in range(6)]

        await asyncio.sleep(3)

        assert 2 <= await jobs.written() <= 5
        assert all([(await ended(handle, 20)).done for handle in handles])


class TestATenant:
    async def test_is_held_back_and_nobody_else(
        self,
        jobs: Jobs,
        hold: Hold,
        release: Hold,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
    ) -> None:
        other = await connected(sessions, vault, providers, jobs.person, scope_id="other")
        await hold(Brake.TENANT, 0.05, "org:acme")
        ours = [await jobs.start("notes.write", key=f"k{n}", text=f"{n}") for n in range(5)]

        told = {"payload": {"text": "hi"}, "by": "the host", "reason": "a test"}
        theirs = [await jobs.platform.call(other.id, "notes.write", key=f"theirs-{n}", **told) for n in range(5)]

        assert all([(await ended(handle, 10)).done for handle in theirs])
        # What the limiter lets through at once when it begins.
        assert await jobs.written() <= 5 + 2
        await release()
        assert all([(await ended(handle, 20)).done for handle in ours])
