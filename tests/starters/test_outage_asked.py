"""What a command asks of an outage's workflow, and what it hears: a workflow that answers from a script."""

import asyncio
import sysconfig
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from integrations.domain.errors import StopError, TryAgainError
from integrations.domain.outage import Isolate, OutageRequest, Pin, Word
from integrations.temporal import start_outage
from starters.outage_asked import ask, is_open
from starters.reach import no_worker_since
from workflows.queues import WORKFLOWS

SAID = Word(by="ada", reason="their status page says resolved")


@workflow.defn(name="ProviderOutageWorkflow", sandboxed=False)
class Scripted:
    """Does nothing but hear what it is told, until it is closed."""

    def __init__(self) -> None:
        self._over = False

    @workflow.run
    async def run(self, request: OutageRequest) -> None:
        await workflow.wait_condition(lambda: self._over)

    @workflow.update
    async def pin(self, pin: Pin) -> str:
        return f"{pin.by} pins {pin.rate:g}/s"

    @workflow.update
    async def isolate(self, said: Isolate) -> None:
        raise ApplicationError(f"{said.endpoint} is contained already")

    @workflow.update
    async def unpin(self, said: Word) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def close(self, said: Word) -> None:
        self._over = True


@pytest_asyncio.fixture
async def provider(time_skipping: WorkflowEnvironment) -> AsyncIterator[str]:
    """A provider of this test alone, whose outage is worked on."""
    name = f"p-{uuid4()}"
    async with Worker(time_skipping.client, task_queue=WORKFLOWS, workflows=[Scripted]):
        handle = await start_outage(
            time_skipping.client,
            OutageRequest(provider_id=name, by="ada", reason="a release", hold=timedelta(hours=1)),
        )
        async with asyncio.timeout(10):
            while await no_worker_since(time_skipping.client, WORKFLOWS):
                await asyncio.sleep(0.05)
        yield name
        if await is_open(time_skipping.client, name):
            await handle.terminate()


@pytest.fixture
def client(time_skipping: WorkflowEnvironment) -> Client:
    return time_skipping.client


@pytest_asyncio.fixture
async def deserted() -> AsyncIterator[Any]:
    """A Temporal that no worker has ever asked for work."""
    async with AsyncExitStack() as stack:
        started = await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(Path(sysconfig.get_path("scripts")) / "temporal"), dev_server_log_level="error"
        )
        stack.push_async_callback(started.shutdown)
        yield started.client


class TestAnOutageThatIsOpen:
    async def test_answers_in_its_own_words(self, client: Client, provider: str) -> None:
        assert await ask(client, provider, "pin", Pin(rate=2, by="ada", reason="x")) == "ada pins 2/s"

    async def test_may_answer_nothing_and_end(self, client: Client, provider: str) -> None:
        assert await is_open(client, provider)

        assert await ask(client, provider, "close", SAID) == ""

        async with asyncio.timeout(10):
            while await is_open(client, provider):
                await asyncio.sleep(0.05)

    async def test_may_refuse_in_words(self, client: Client, provider: str) -> None:
        with pytest.raises(StopError, match="isolate was refused: token is contained already"):
            await ask(client, provider, "isolate", Isolate(by="ada", reason="x", endpoint="token"))


class TestAnOutageThatDoesNotAnswer:
    async def test_is_given_up_within_seconds_when_no_worker_is_there(self, deserted: Client) -> None:
        began = time.monotonic()

        with pytest.raises(TryAgainError, match="close has to be done by a worker, and no worker has polled the queue"):
            await ask(deserted, "simulator", "close", SAID)
        assert time.monotonic() - began < 8

    async def test_is_given_up_after_a_while(self, client: Client, provider: str) -> None:
        with pytest.raises(TryAgainError, match="unpin was not answered within 10 s and may still be carried out"):
            await ask(client, provider, "unpin", SAID)

    async def test_is_none_where_none_runs(self, client: Client, provider: str) -> None:
        assert not await is_open(client, "nosuch")
        with pytest.raises(StopError, match="no outage of nosuch is being worked on"):
            await ask(client, "nosuch", "close", SAID)
