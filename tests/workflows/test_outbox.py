"""What a dispatcher and a delivery decide, with scripted steps."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.outbox import ProjectionFailedError
from integrations import temporal
from integrations.domain.ledger import SUSPECTED
from integrations.domain.outbox import Delivered, DeliveryRequest, Drained, Pair, Retrying
from tests.workflows.fakes import OUTAGE, FakeOutbox, workers
from workflows.options import delivery

REFUSED = ProjectionFailedError("CheckViolation: it is refused")
AGAIN = Drained(dispatchers=4, items=12, why="it has been long enough")


def pair(cause: str = "CheckViolation: it is refused") -> Pair:
    return Pair(
        projector="activity",
        event_id=uuid4(),
        name="connection.refreshed",
        provider_id="simulator",
        tenant="org:acme",
        connection_id=uuid4(),
        cause=cause,
    )


async def ended(
    env: WorkflowEnvironment, fake: FakeOutbox, *, attempts: int = 12, tried: int = 1, of: Pair | None = None
) -> tuple[WorkflowHandle[Any, Any], Delivered]:
    async with workers(env.client, outbox=fake):
        wanted = DeliveryRequest(pair=of or pair(), tried=tried, retrying=Retrying(attempts=attempts))
        handle = await temporal.start_delivery(env.client, wanted)
        return handle, await asyncio.wait_for(handle.result(), 30)


class TestADelivery:
    async def test_tries_until_it_is_delivered(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutbox(attempts=[REFUSED] * 10)

        _, result = await ended(time_skipping, fake)

        assert (result.status, result.attempts) == ("delivered", 12)
        assert fake.buried == 0

    async def test_tries_alone_what_may_end_the_process(self, time_skipping: WorkflowEnvironment) -> None:
        suspect, other = FakeOutbox(), FakeOutbox()

        await ended(time_skipping, suspect, of=pair(SUSPECTED.cause))
        await ended(time_skipping, other)

        assert (suspect.alone, other.alone) == ({True}, {False})

    async def test_buries_it_when_its_attempts_are_used_up(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutbox(attempts=[REFUSED] * 99)

        handle, result = await ended(time_skipping, fake)

        assert (result.status, result.attempts, fake.tried, fake.buried) == ("dead", 12, 11, 1)
        described = await handle.describe()
        assert described.typed_search_attributes.get(temporal.STEP) == "dead"

    async def test_does_not_count_a_database_in_trouble(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutbox(attempts=[OUTAGE] * 30)

        _, result = await ended(time_skipping, fake)

        assert result.status == "delivered"
        assert fake.buried == 0

    async def test_begun_anew_after_its_last_attempt_tries_once_more(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutbox(attempts=[REFUSED])

        _, result = await ended(time_skipping, fake, tried=12)

        assert (result.status, fake.tried) == ("dead", 1)

    async def test_waits_a_second_at_first_and_five_minutes_in_the_end(self) -> None:
        policy = delivery(Retrying(), tried=1)["retry_policy"]

        waits = [min(policy.initial_interval * 2**n, timedelta(minutes=5)) for n in range(policy.maximum_attempts - 1)]
        assert policy.maximum_interval == timedelta(minutes=5)
        assert policy.backoff_coefficient == 2
        assert (len(waits), waits[0], waits[-1]) == (10, timedelta(seconds=1), timedelta(minutes=5))
        assert sum(waits, timedelta()) > timedelta(minutes=13)


class TestADispatcher:
    async def test_drains_again_until_there_are_to_be_fewer(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutbox([AGAIN, AGAIN, Drained(dispatchers=3, items=0, why="the partitions are dealt anew")])

        async with workers(time_skipping.client, outbox=fake):
            handle = await temporal.start_dispatcher(time_skipping.client, 3)
            result = await asyncio.wait_for(handle.result(), 30)

        assert fake.drained == 3
        assert result == "there are to be 3 dispatchers by now"

    async def test_waits_for_a_database_that_is_down(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutbox([OUTAGE] * 40)

        async with workers(time_skipping.client, outbox=fake):
            handle = await temporal.start_dispatcher(time_skipping.client, 0)
            await asyncio.wait_for(handle.result(), 30)

        assert fake.drained == 41

    async def test_starts_its_history_anew_after_fifty_drains(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutbox([AGAIN] * 60)

        async with workers(time_skipping.client, outbox=fake):
            handle = await temporal.start_dispatcher(time_skipping.client, 1)
            await asyncio.wait_for(handle.result(), 30)

        described = await time_skipping.client.get_workflow_handle(handle.id).describe()
        assert described.run_id != handle.first_execution_run_id
        assert described.history_length < 200
        assert fake.drained == 61
