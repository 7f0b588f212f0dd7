"""Scenarios of webhooks to be recorded."""

from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle

from activities.webhook import HandlingFailedError
from integrations import temporal
from integrations.domain.outbox import Drained, Retrying
from integrations.domain.webhook import Handled, HandleRequest, Left
from tests.workflows.fake_webhook import FakeWebhook
from tests.workflows.fakes import OUTAGE, workers

_REFUSED: Final = HandlingFailedError("it is refused")


async def _delivery(client: Client, fake: FakeWebhook) -> WorkflowHandle[Any, Any]:
    left = Left(
        id=uuid4(),
        provider_id="simulator",
        channel="app",
        event="grant.revoked",
        handler="revoked",
        tenant="org:acme",
        connection_id=uuid4(),
        cause="CheckViolation: it is refused",
    )
    async with workers(client, webhook=fake):
        handle = await temporal.start_handling(client, HandleRequest(left=left, retrying=Retrying(attempts=3)))
        await handle.result()
    return handle


async def dispatched(client: Client) -> WorkflowHandle[Any, Any]:
    """Two drains, an outage of the database between them, and a new deal in which it has no part."""
    drains = [Drained(dispatchers=2, items=12, why="it has been long enough"), OUTAGE]
    async with workers(client, webhook=FakeWebhook(drains)):
        handle = await temporal.start_webhook_dispatcher(client, 1)
        await handle.result()
    return handle


async def delivered(client: Client) -> WorkflowHandle[Any, Any]:
    """By the second of two attempts; the database was in trouble for as many as there are before."""
    return await _delivery(client, FakeWebhook(attempts=[OUTAGE, OUTAGE, _REFUSED]))


async def buried(client: Client) -> WorkflowHandle[Any, Any]:
    return await _delivery(client, FakeWebhook(attempts=[_REFUSED] * 2))


async def sent_again(client: Client) -> WorkflowHandle[Any, Any]:
    """Its provider sent it once more between two attempts: the flow has it."""
    return await _delivery(client, FakeWebhook(attempts=[_REFUSED, Handled(status="settled before", attempts=3)]))


SCENARIOS: Final[dict[str, Callable[[Client], Awaitable[WorkflowHandle[Any, Any]]]]] = {
    "WebhookDispatchWorkflow/dispatched": dispatched,
    "WebhookDeliveryWorkflow/delivered": delivered,
    "WebhookDeliveryWorkflow/buried": buried,
    "WebhookDeliveryWorkflow/sent_again": sent_again,
}
