"""What reconcile gives to notifications: channels that run, workflows for what lost theirs, and the alert."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.reconcile import ReconcileActivities, Reconciled
from integrations.db.vault import Vault
from integrations.domain.notification import CHANNELS
from integrations.domain.notification_delivery import Left
from integrations.domain.reauth import Terms
from integrations.providers import definitions
from integrations.providers.definitions import sample
from integrations.providers.rendering import Renderer
from tests.notification.ground import IDLE, Ground, ground
from tests.notification.sink import Sink, receiving
from tests.outbox.events import add_events, rows
from worker.plugin import runbook_plugin

ALERTS = "SELECT * FROM service_lifecycle_outbox WHERE name = 'notification.dead_letters' ORDER BY seq"


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Ground]:
    async with ground(engine, database_url, vault) as made:
        yield made


@pytest_asyncio.fixture
async def sink(told: Ground) -> AsyncIterator[Sink]:
    async with receiving(lambda _key, _nth: 503) as made:
        await told.add_address(made.url)
        yield made


@pytest_asyncio.fixture
async def client(time_skipping: WorkflowEnvironment) -> AsyncIterator[Client]:
    """Nobody polls there: what is started stays as it was started."""
    address = time_skipping.client.service_client.config.target_host
    made = await Client.connect(address, plugins=[runbook_plugin()])
    yield made
    async for run in made.list_workflows("FailureMode = 'notification' AND ExecutionStatus = 'Running'"):
        await made.get_workflow_handle(run.id, run_id=run.run_id).terminate()


async def swept(told: Ground, client: Client) -> Reconciled:
    terms = Terms.model_construct()
    return await ActivityEnvironment(client=client).run(ReconcileActivities(told.sessions, terms).notifications)


async def failing(told: Ground, count: int) -> list[Left]:
    """Messages that left the flow, and whose workflows nobody has heard of since."""
    await add_events(told.engine, count, name="told.news", connections=count)
    await told.request()
    await told.work(until=IDLE)
    await overdue(told)
    return told.started


async def overdue(told: Ground) -> None:
    late = "UPDATE service_notification_dispatches SET lease_until = now() - interval '1 s' WHERE status = 'retrying'"
    await rows(told.engine, f"{late} RETURNING 1")


async def input_of(client: Client, left: Left) -> dict[str, Any]:
    first = (await client.get_workflow_handle(left.key).fetch_history()).events[0]
    return dict(json.loads(first.workflow_execution_started_event_attributes.input.payloads[0].data))


class TestAChannel:
    async def test_that_was_terminated_runs_again(self, told: Ground, client: Client) -> None:
        await swept(told, client)
        handles = [client.get_workflow_handle(f"notification-dispatch:{channel}") for channel in CHANNELS]
        before = [(await handle.describe()).run_id for handle in handles]
        await handles[0].terminate()

        await swept(told, client)

        after = [await handle.describe() for handle in handles]
        assert {run.status for run in after} == {WorkflowExecutionStatus.RUNNING}
        assert [run.run_id == known for run, known in zip(after, before, strict=True)] == [False, True, True]


class TestAMessage:
    async def test_that_nobody_is_at_gets_its_workflow_once(self, told: Ground, sink: Sink, client: Client) -> None:
        (left,) = await failing(told, 1)

        first = await swept(told, client)
        second = await swept(told, client)

        asked = await input_of(client, left)
        assert (first.messages, second.messages) == (1, 0)
        assert (asked["left"]["dispatch_id"], asked["tried"]) == (str(left.dispatch_id), 1)
        assert asked["left"]["whole"] is False

    async def test_that_somebody_is_at_is_left_alone(self, told: Ground, sink: Sink, client: Client) -> None:
        await failing(told, 1)
        busy = "UPDATE service_notification_dispatches SET lease_until = now() + interval '1 minute' RETURNING 1"
        await rows(told.engine, busy)

        assert (await swept(told, client)).messages == 0

    async def test_that_tries_for_all_goes_on_to_do_so(self, told: Ground, sink: Sink, client: Client) -> None:
        lost = await failing(told, 60)
        (whole,) = [left for left in lost if left.whole]

        assert (await swept(told, client)).messages == len(lost)

        for left in lost:
            assert (await input_of(client, left))["left"]["whole"] is (left == whole)

    async def test_whose_workflow_cannot_be_started_stops_no_other(
        self, told: Ground, sink: Sink, client: Client
    ) -> None:
        wrong, right = await failing(told, 2)
        # An id of a workflow that is too long for Temporal; it is met first.
        spoilt = "UPDATE service_notification_dispatches SET definition = repeat('x', 3000), "
        spoilt += "lease_until = now() - interval '1 hour' WHERE id = :id RETURNING 1"
        await rows(told.engine, spoilt, id=wrong.dispatch_id)

        assert (await swept(told, client)).messages == 1

        assert (await input_of(client, right))["left"]["dispatch_id"] == str(right.dispatch_id)


class TestAHold:
    async def test_that_waits_for_nothing_is_released(self, told: Ground, sink: Sink, client: Client) -> None:
        lost = await failing(told, 60)
        (whole,) = [left for left in lost if left.whole]
        by_hand = "UPDATE service_notification_dispatches SET status = 'dropped' WHERE id = :id RETURNING 1"

        before = await swept(told, client)
        await rows(told.engine, by_hand, id=whole.dispatch_id)
        after = await swept(told, client)

        assert (before.holds, after.holds) == (0, 1)
        assert await rows(told.engine, "SELECT released_at IS NOT NULL FROM service_ledger_holds") == [(True,)]


async def die(told: Ground, count: int = 1, *, name: str = "told.news") -> None:
    """Messages that were given up a moment ago."""
    await add_events(told.engine, count, name=name, connections=count)
    dead = "INSERT INTO service_notification_dispatches (id, event_id, definition, recipient, channel, part, status, "
    dead += "due_at, expires_at, cause, settled_at) SELECT gen_random_uuid(), event_id, 'told', 'org:acme', 'webhook', "
    dead += "0, 'dead', now(), now(), 'HTTP 503', now() FROM service_lifecycle_outbox AS event WHERE name = :name "
    dead += (
        "AND NOT EXISTS (SELECT FROM service_notification_dispatches AS known WHERE known.event_id = event.event_id)"
    )
    await rows(told.engine, f"{dead} RETURNING 1", name=name)


async def later(told: Ground, by: timedelta) -> None:
    """As if all of it had been so much earlier."""
    for table, column in (
        ("service_lifecycle_outbox", "occurred_at"),
        ("service_notification_dispatches", "settled_at"),
    ):
        await rows(told.engine, f"UPDATE {table} SET {column} = {column} - cast(:by AS interval) RETURNING 1", by=by)


class TestTheAlert:
    async def test_is_one_event_that_says_what_is_dead_and_why(self, told: Ground, client: Client) -> None:
        await die(told, 3)
        sql = "UPDATE service_notification_dispatches SET cause = 'SMTP 550', channel = 'email' WHERE id = "
        await rows(told.engine, f"{sql} (SELECT min(id::text)::uuid FROM service_notification_dispatches) RETURNING 1")

        swept_first = await swept(told, client)

        (event,) = await rows(told.engine, ALERTS)
        assert swept_first.alerts == 1
        assert (event.provider_id, event.scope_type, event.scope_id) == ("runbook", "org", "operators")
        assert (event.payload["dead"], event.payload["more"]) == (3, 3)
        assert event.payload["causes"] == [
            {"channel": "webhook", "cause": "HTTP 503", "dead": 2},
            {"channel": "email", "cause": "SMTP 550", "dead": 1},
        ]

    async def test_can_be_told_by_its_definition(self, told: Ground, client: Client) -> None:
        await die(told)
        await swept(told, client)
        (event,) = await rows(told.engine, ALERTS)
        built_in = definitions.load()
        (definition,) = built_in.about(event.name)

        rendered = Renderer(built_in).render(definition, sample(event.name, event.payload), "", "UTC", "Runbook")

        assert "1 by webhook: HTTP 503" in rendered.text
        assert event.payload.keys() == built_in.samples[event.name][0].keys()

    async def test_is_not_repeated_within_the_hour(self, told: Ground, client: Client) -> None:
        await die(told)
        await swept(told, client)
        await later(told, timedelta(minutes=50))
        await die(told)

        assert (await swept(told, client)).alerts == 0
        assert len(await rows(told.engine, ALERTS)) == 1

    async def test_comes_again_an_hour_later_with_what_died_since(self, told: Ground, client: Client) -> None:
        await die(told, 2)
        await swept(told, client)
        await rows(told.engine, "UPDATE service_lifecycle_outbox SET event_id = :id WHERE name = :name RETURNING 1",
                   id=uuid4(), name="notification.dead_letters")  # fmt: skip
        await later(told, timedelta(minutes=61))
        await die(told)

        assert (await swept(told, client)).alerts == 1

        first, second = await rows(told.engine, ALERTS)
        assert (second.payload["dead"], second.payload["more"]) == (3, 1)
        assert second.payload["since"] == first.occurred_at.isoformat()

    async def test_does_not_come_again_while_nothing_more_dies(self, told: Ground, client: Client) -> None:
        await die(told)
        await swept(told, client)
        await later(told, timedelta(days=1))

        assert (await swept(told, client)).alerts == 0

    async def test_is_none_of_what_reached_nobody_or_nothing_dead(self, told: Ground, client: Client) -> None:
        await die(told)
        await rows(told.engine, "UPDATE service_notification_dispatches SET status = 'nobody' RETURNING 1")

        assert (await swept(told, client)).alerts == 0

    async def test_is_not_raised_by_its_own_dead_letters(self, told: Ground, client: Client) -> None:
        await die(told, name="notification.dead_letters")

        assert (await swept(told, client)).alerts == 0
        assert len(await rows(told.engine, ALERTS)) == 1
