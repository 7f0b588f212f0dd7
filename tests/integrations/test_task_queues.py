"""How fast a real Temporal lets tasks out: of a queue, of one tenant in it, and who goes first."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from integrations import task_queues
from integrations.task_queues import Kept, Rates, fairness_key
from worker.plugin import runbook_plugin
from workflows.queues import First, priority

ACME, OTHER = "org:acme", "org:other"


class TestAFairnessKey:
    def test_is_the_tenant_where_that_is_short(self) -> None:
        assert fairness_key("org:acme") == "org:acme"

    def test_is_never_longer_than_the_server_takes_and_still_tells_two_apart(self) -> None:
        long = [f"org:{'ü' * 60}{name}" for name in ("one", "two")]

        keys = [fairness_key(tenant) for tenant in long]

        assert len(set(keys)) == 2
        assert all(len(key.encode()) <= 64 and key.startswith("org:üü") for key in keys)


class TestRates:
    def test_of_one_tenant_are_a_share_of_what_nobody_else_gets_near(self) -> None:
        rates = Rates(keys={ACME: 4.0})

        assert (rates.for_all_keys(), rates.weights()) == (1000, {ACME: 0.004})

    @pytest.mark.parametrize(("rate", "whole"), [(0.5, 500), (0.02, 20), (0.0, 20)])
    def test_that_are_low_keep_the_weight_that_the_server_takes(self, rate: float, whole: float) -> None:
        rates = Rates(keys={ACME: rate})

        assert rates.for_all_keys() == pytest.approx(whole)
        assert rates.weights() == {ACME: pytest.approx(0.001)}

    def test_of_several_tenants_are_shares_of_the_same(self) -> None:
        rates = Rates(keys={ACME: 0.1, OTHER: 5})

        assert rates.for_all_keys() == pytest.approx(100)
        assert rates.weights() == {ACME: pytest.approx(0.001), OTHER: pytest.approx(0.05)}

    def test_never_let_out_more_of_others_than_somebody_else_had_set(self) -> None:
        rates = Rates(keys={ACME: 0.1})

        assert (rates.for_all_keys(3.0), rates.weights(3.0)) == (3.0, {ACME: pytest.approx(0.1 / 3)})

    def test_without_a_tenant_limit_no_key(self) -> None:
        assert (Rates(queue=1).for_all_keys(), Rates(queue=1).weights()) == (None, {})


class Ground:
    """A queue of this test alone, and when which task was let out."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.queue = f"provider-{uuid4().hex}"
        self.ran: list[tuple[str, float]] = []

    async def limited(self, rates: Rates) -> None:
        await task_queues.limit(
            self.client, self.queue, rates, Kept(weights={ACME: None, OTHER: None}), reason="a test", changed=True
        )

    async def waits(self, name: str, count: int, place: Priority) -> None:
        for _ in range(count):
            await self.client.start_activity(
                "work",
                name,
                id=uuid4().hex,
                task_queue=self.queue,
                start_to_close_timeout=timedelta(seconds=10),
                priority=place,
            )

    @asynccontextmanager
    async def worked(self) -> AsyncIterator[None]:
        @activity.defn(name="work")
        async def work(name: str) -> None:
            self.ran.append((name, time.monotonic()))

        async with Worker(self.client, task_queue=self.queue, activities=[work]):
            yield

    async def all_ran(self, count: int, within: float = 20) -> None:
        async with asyncio.timeout(within):
            while len(self.ran) < count:
                await asyncio.sleep(0.02)

    def names(self) -> list[str]:
        return [name for name, _ in self.ran]


@pytest_asyncio.fixture
async def ground(time_skipping: WorkflowEnvironment) -> Ground:
    target = time_skipping.client.service_client.config.target_host
    return Ground(await Client.connect(target, plugins=[runbook_plugin()]))


class TestAQueue:
    async def test_that_is_held_back_lets_live_traffic_out_before_what_is_replayed(self, ground: Ground) -> None:
        await ground.limited(Rates(queue=0))
        async with ground.worked():
            await ground.waits("replayed", 4, priority(First.REPLAY, ACME))
            await ground.waits("swept", 2, priority(First.SWEEP))
            await ground.waits("live", 4, priority(First.LIVE, ACME))
            await asyncio.sleep(0.5)
            assert ground.names() == []

            await ground.limited(Rates(queue=5))
            await ground.all_ran(10)

        assert ground.names() == ["live"] * 4 + ["swept"] * 2 + ["replayed"] * 4
        seconds = ground.ran[-1][1] - ground.ran[0][1]
        assert seconds > 9 / 5 * 0.7

    async def test_is_as_fast_as_before_once_it_is_not_limited(self, ground: Ground) -> None:
        await ground.limited(Rates(queue=0.1))
        async with ground.worked():
            await ground.waits("live", 20, priority(First.LIVE, ACME))
            await asyncio.sleep(0.5)
            assert len(ground.ran) <= 1

            await ground.limited(Rates())
            await ground.all_ran(20, within=5)


class TestATenant:
    async def test_is_held_back_alone(self, ground: Ground) -> None:
        await ground.limited(Rates(keys={ACME: 1}))
        async with ground.worked():
            await ground.waits(ACME, 6, priority(First.LIVE, ACME))
            await ground.waits(OTHER, 30, priority(First.LIVE, OTHER))
            await ground.waits("a person", 1, priority(First.PERSON))
            async with asyncio.timeout(5):
                while (ground.names().count(OTHER), ground.names().count("a person")) != (30, 1):
                    await asyncio.sleep(0.1)

            # One in each second, and what the limiter lets through at once when it begins.
            assert ground.names().count(ACME) <= 2 + (time.monotonic() - ground.ran[0][1])

            await ground.limited(Rates())
            await ground.all_ran(37, within=5)
