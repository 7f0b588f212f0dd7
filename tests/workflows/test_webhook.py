"""What a dispatcher of webhooks and a delivery in trouble decide, with scripted steps."""

import asyncio
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.webhook import HandlingFailedError
from integrations import temporal
from integrations.domain.ledger import SUSPECTED
from integrations.domain.outbox import Drained
from integrations.domain.webhook import RETRYING, Handled, HandleRequest, Left
from tests.workflows.fake_webhook import FakeWebhook
from tests.workflows.fakes import OUTAGE, workers

REFUSED = HandlingFailedError("CheckViolation: it is refused")
AGAIN = Drained(dispatchers=2, items=12, why="it has been long enough")


def left(cause: str = "CheckViolation", **more: Any) -> Left:
    given = {"provider_id": "github", "channel": "app", "event": "push", "handler": "event"}
    return Left(id=uuid4(), cause=cause, **given, **more)


async def ended(
    env: WorkflowEnvironment, fake: FakeWebhook, *, tried: int = 1, **more: Any
) -> tuple[WorkflowHandle[Any, Any], Handled]:
    async with workers(env.client, webhook=fake):
        wanted = HandleRequest(left=left(tenant="org:acme", connection_id=uuid4(), woken=3, **more), tried=tried)
        handle = await temporal.start_handling(env.client, wanted)
        return handle, await asyncio.wait_for(handle.result(), 30)


class TestADelivery:
    async def test_is_tried_eight_times_in_all(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeWebhook(attempts=[REFUSED] * (RETRYING.attempts - 2))

        _, result = await ended(time_skipping, fake)

        assert (result.status, result.attempts, fake.buried) == ("delivered", 8, 0)

    async def test_is_tried_alone_when_it_may_end_the_process(self, time_skipping: WorkflowEnvironment) -> None:
        suspect, other = FakeWebhook(), FakeWebhook()

        await ended(time_skipping, suspect, cause=SUSPECTED.cause)
        await ended(time_skipping, other)

        assert (suspect.alone, other.alone) == ({True}, {False})

    async def test_is_dead_after_that_and_found_so(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeWebhook(attempts=[REFUSED] * 99)

        handle, result = await ended(time_skipping, fake)

        assert (result.status, result.attempts, fake.tried, fake.buried, fake.woken) == ("dead", 8, 7, 1, {3})
        described = await handle.describe()
        found = described.typed_search_attributes
        assert [found.get(key) for key in (temporal.STEP, temporal.PROVIDER, temporal.TENANT)] == [
            "dead",
            "github",
            "org:acme",
        ]

    async def test_uses_up_nothing_while_the_database_is_in_trouble(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeWebhook(attempts=[OUTAGE] * 30)

        _, result = await ended(time_skipping, fake)

        assert (result.status, fake.buried) == ("delivered", 0)

    async def test_ends_when_its_provider_has_sent_it_again(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeWebhook(attempts=[REFUSED, Handled(status="settled before", attempts=3)])

        _, result = await ended(time_skipping, fake)

        assert (result.status, fake.tried, fake.buried) == ("settled before", 2, 0)

    async def test_begun_anew_after_its_last_attempt_is_tried_once_more(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeWebhook(attempts=[REFUSED])

        _, result = await ended(time_skipping, fake, tried=8)

        assert (result.status, result.attempts, fake.tried) == ("dead", 9, 1)


class TestADispatcher:
    async def test_drains_again_until_there_are_to_be_fewer(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeWebhook([AGAIN, OUTAGE, AGAIN, Drained(dispatchers=1, items=0, why="the partitions are dealt anew")])

        async with workers(time_skipping.client, webhook=fake):
            handle = await temporal.start_webhook_dispatcher(time_skipping.client, 1)
            result = await asyncio.wait_for(handle.result(), 30)

        assert fake.drained == 4
        assert result == "there are to be 1 dispatchers by now"
        assert handle.id == "webhook-dispatch:1"

    async def test_starts_its_history_anew_after_fifty_drains(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeWebhook([AGAIN] * 60)

        async with workers(time_skipping.client, webhook=fake):
            handle = await temporal.start_webhook_dispatcher(time_skipping.client, 0)
            await asyncio.wait_for(handle.result(), 30)

        described = await time_skipping.client.get_workflow_handle(handle.id).describe()
        assert described.run_id != handle.first_execution_run_id
        assert fake.drained == 61
