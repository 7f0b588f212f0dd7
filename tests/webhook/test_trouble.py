"""A delivery's own workflow, step by step; what follows a batch; and what reconcile finds."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment
from temporalio.worker import Worker

from activities.alone import alone
from activities.reconcile import Reconciled
from activities.reconcile_kit import is_running
from activities.reconcile_webhooks import ReconcileWebhooksActivities
from activities.webhook import HandlingFailedError, WebhookActivities
from integrations import temporal
from integrations.db import automation
from integrations.db.session import Sessions
from integrations.db.tables import GrantEvent
from integrations.db.vault import Vault
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_handlers import Handling
from integrations.domain.automation import FailureMode
from integrations.domain.errors import TryAgainError
from integrations.domain.ledger import SUSPECTED
from integrations.domain.outbox import DispatchRequest, Retrying
from integrations.domain.reauth import Terms
from integrations.domain.webhook import HandleRequest, HandleStep, Left, Reaction
from tests.factories import add_connection, add_credential, every
from tests.outbox.events import refused, rows
from tests.webhook.given import KEY, WATCHED, add, delivery, statuses, told
from worker.plugin import runbook_plugin
from workflows.queues import WORKFLOWS
from workflows.webhook import WebhookDeliveryWorkflow

OUTBOX = "service_lifecycle_outbox"
HOLD = """
INSERT INTO service_ledger_holds (ledger, part, destination, order_key, item_id)
VALUES ('webhooks', :part, 'event', '*', :item)"""


@pytest_asyncio.fixture
async def client(time_skipping: WorkflowEnvironment) -> AsyncIterator[Client]:
    """Nobody polls there: what is started stays as it was started."""
    made = await Client.connect(time_skipping.client.service_client.config.target_host, plugins=[runbook_plugin()])
    yield made
    async for run in made.list_workflows("ExecutionStatus = 'Running'"):
        await made.get_workflow_handle(run.id, run_id=run.run_id).terminate()


@pytest.fixture
def steps(sessions: Sessions, database_url: str, handling: Handling) -> WebhookActivities:
    return WebhookActivities(sessions, database_url, Terms(), handling, Retrying(attempts=3))


async def tried(steps: WebhookActivities, client: Client, delivery_id: UUID, before: int = 1, **more: bool) -> Any:
    environment = ActivityEnvironment(client=client)
    return await environment.run(steps.deliver, HandleStep(id=delivery_id, tried=before, **more))


class TestAnAttempt:
    async def test_handles_it_and_ends_its_trouble(
        self, engine: AsyncEngine, sessions: Sessions, client: Client, steps: WebhookActivities
    ) -> None:
        [given] = await add(engine, status="retrying")

        ended = await tried(steps, client, given)

        assert (ended.status, ended.attempts, ended.handled_as) == ("delivered", 2, "webhook.received")
        row = await delivery(sessions, given)
        assert (row.status, row.attempts, row.lease_until) == ("delivered", 2, None)
        assert len(await told(engine)) == 1

    async def test_that_may_end_the_process_waits_for_its_turn_and_no_other_does(
        self, engine: AsyncEngine, client: Client, steps: WebhookActivities
    ) -> None:
        suspect, other = await add(engine, 2, status="retrying")

        async with alone():
            waits = asyncio.create_task(tried(steps, client, suspect, alone=True))
            assert (await tried(steps, client, other)).status == "delivered"
            await asyncio.sleep(0.2)
            assert not waits.done()

        assert (await waits).status == "delivered"

    async def test_that_fails_is_written_down_and_says_that_somebody_is_at_it(
        self, engine: AsyncEngine, sessions: Sessions, client: Client, steps: WebhookActivities
    ) -> None:
        [given] = await add(engine, status="retrying")

        async with refused(engine, "true", OUTBOX):
            with pytest.raises(HandlingFailedError, match="it is refused"):
                await tried(steps, client, given, before=2)

        row = await delivery(sessions, given)
        assert (row.status, row.attempts, row.cause) == ("retrying", 3, "Raise: it is refused")
        assert await told(engine) == []
        [lasts] = await rows(engine, "SELECT lease_until > now() + interval '9 min' FROM service_webhook_deliveries")
        assert lasts[0]

    async def test_says_nothing_of_it_when_the_database_has_trouble(
        self, engine: AsyncEngine, sessions: Sessions, client: Client, steps: WebhookActivities
    ) -> None:
        [given] = await add(engine, status="retrying")

        async with refused(engine, "true", OUTBOX, "RAISE 'full' USING ERRCODE = '53100'"):
            with pytest.raises(TryAgainError) as failure:
                await tried(steps, client, given)

        assert not isinstance(failure.value, HandlingFailedError)
        assert (await delivery(sessions, given)).attempts == 1

    async def test_that_ends_its_session_is_one_that_failed(
        self, engine: AsyncEngine, sessions: Sessions, client: Client, steps: WebhookActivities
    ) -> None:
        [given] = await add(engine, status="retrying")

        async with refused(engine, "true", OUTBOX, "PERFORM pg_terminate_backend(pg_backend_pid())"):
            with pytest.raises(HandlingFailedError):
                await tried(steps, client, given)

        assert (await delivery(sessions, given)).attempts == 2

    async def test_of_a_workflow_from_before_it_was_sent_again_changes_nothing(
        self, engine: AsyncEngine, sessions: Sessions, client: Client, steps: WebhookActivities
    ) -> None:
        [given] = await add(engine, status="retrying", woken="1")
        before, now = (HandleStep(id=given, tried=7, woken=woken) for woken in (0, 1))

        for step in (steps.deliver, steps.bury):
            assert (await ActivityEnvironment(client=client).run(step, before)).status == "settled before"
        assert await statuses(engine) == {"retrying": 1}
        async with refused(engine, "true", OUTBOX):
            with pytest.raises(HandlingFailedError):
                await ActivityEnvironment(client=client).run(steps.deliver, now)
        assert (await delivery(sessions, given)).attempts == 8
        assert (await ActivityEnvironment(client=client).run(steps.bury, now)).status == "dead"

    async def test_goes_back_to_the_flow_while_webhooks_are_paused(
        self, engine: AsyncEngine, sessions: Sessions, client: Client, steps: WebhookActivities
    ) -> None:
        [given] = await add(engine, status="retrying")
        async with sessions.begin() as session:
            await automation.pause(session, [FailureMode.WEBHOOK], timedelta(hours=1), by="ada", reason="look")

        ended = await tried(steps, client, given)

        assert (ended.status, "paused by ada" in ended.cause) == ("in the flow again", True)
        assert await statuses(engine) == {"pending": 1}
        assert await told(engine) == []

    @pytest.mark.parametrize("delivered", [True, False])
    async def test_lets_go_on_what_it_tried_for_however_it_ends(
        self, engine: AsyncEngine, client: Client, steps: WebhookActivities, delivered: bool
    ) -> None:
        [given] = await add(engine, status="retrying")
        await rows(engine, f"{HOLD} RETURNING 1", part=0, item=given)

        if delivered:
            await tried(steps, client, given)
        else:
            await ActivityEnvironment(client=client).run(steps.bury, HandleStep(id=given))

        assert await statuses(engine) == {"delivered" if delivered else "dead": 1}
        assert not await rows(engine, "SELECT * FROM service_ledger_holds WHERE released_at IS NULL")

    async def test_starts_the_lifecycle_of_what_it_detects(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, client: Client, steps: WebhookActivities
    ) -> None:
        mine = await add_connection(sessions, provider_id="github")
        await add_credential(sessions, vault, mine.id)
        [given] = await add(engine, status="retrying", event="'revoked'", account="'acct_ada'")

        await tried(steps, client, given)

        [found] = await every(sessions, GrantEvent)
        described = await client.get_workflow_handle(f"reauth:github:{mine.id}").describe()
        assert described.status is WorkflowExecutionStatus.RUNNING
        history = await client.get_workflow_handle(f"reauth:github:{mine.id}").fetch_history()
        signals = [event.workflow_execution_signaled_event_attributes for event in history.events[1:2]]
        assert [json.loads(each.input.payloads[0].data) for each in signals] == [{"detection_id": str(found.id)}]


class TestItsWorkflow:
    async def test_delivers_it_in_the_end(
        self,
        engine: AsyncEngine,
        owner: AsyncConnection,
        flow: Flow,
        steps: WebhookActivities,
        time_skipping: WorkflowEnvironment,
    ) -> None:
        await add(engine)
        async with refused(engine, "true", OUTBOX):
            [left] = (await flow.batch(owner, 0, 100)).failed
        assert isinstance(left, Left)

        client = time_skipping.client
        async with Worker(
            client,
            task_queue=WORKFLOWS,
            workflows=[WebhookDeliveryWorkflow],
            activities=[steps.deliver, steps.bury],
        ):
            ended = await (await temporal.start_handling(client, HandleRequest(left=left))).result()

        assert (ended.status, ended.attempts) == ("delivered", 2)
        assert await statuses(engine) == {"delivered": 1}

    async def test_buries_what_ends_the_session_each_time(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        owner: AsyncConnection,
        database_url: str,
        time_skipping: WorkflowEnvironment,
    ) -> None:
        async def deadly(session: AsyncSession, _found: Any, _replayed: bool) -> Any:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        handling = Handling(WATCHED, KEY, {Reaction.MISSED: deadly})
        steps = WebhookActivities(sessions, database_url, Terms(), handling)
        [given] = await add(engine, event="'lost'")
        # As the dispatcher does once it stood alone.
        moved = await Flow(handling).set_aside(owner, given, SUSPECTED)
        [left] = moved.failed
        assert isinstance(left, Left)

        client = time_skipping.client
        async with Worker(
            client,
            task_queue=WORKFLOWS,
            workflows=[WebhookDeliveryWorkflow],
            activities=[steps.deliver, steps.bury],
        ):
            request = HandleRequest(left=left, retrying=Retrying(attempts=3))
            ended = await (await temporal.start_handling(client, request)).result()

        row = await delivery(sessions, given)
        assert (ended.status, row.status, row.attempts) == ("dead", "dead", 3)
        assert len(row.history or ()) == 3
        assert row.body == b"{}"


class TestADrain:
    """The activity, on its own connection."""

    async def test_handles_what_is_there_and_starts_what_is_in_trouble(
        self, engine: AsyncEngine, client: Client, steps: WebhookActivities
    ) -> None:
        await add(engine, 30, part="i % 16")
        [poison] = await add(engine, event="'poison'")
        environment = ActivityEnvironment(client=client)

        async with refused(engine, "NEW.payload ->> 'event' = 'poison'", OUTBOX):
            drains = [
                asyncio.create_task(environment.run(steps.drain, DispatchRequest(number=number))) for number in range(2)
            ]
            async with asyncio.timeout(20):
                while await statuses(engine) != {"delivered": 30, "retrying": 1}:
                    await asyncio.sleep(0.05)
                while not await is_running(client, f"webhook:github:{poison}"):
                    await asyncio.sleep(0.05)
        environment.worker_shutdown()
        ended = await asyncio.gather(*drains)

        assert sum(each.items for each in ended) == 31

    async def test_takes_away_what_ended_the_process_each_time(
        self, engine: AsyncEngine, sessions: Sessions, client: Client, steps: WebhookActivities
    ) -> None:
        [before, deadly] = await add(engine, 2, resource="'file-1'")
        killed = "INSERT INTO service_dispatchers (ledger, number, worker, parts, running, batch, suspect, started_at, "
        killed += "seen_at) VALUES ('webhooks', 0, 'killed', '{0}', true, 1, :id, now(), now()) RETURNING 1"
        await rows(engine, killed, id=deadly)
        environment = ActivityEnvironment(client=client)

        draining = asyncio.create_task(environment.run(steps.drain, DispatchRequest(number=0)))
        async with asyncio.timeout(20):
            while not await is_running(client, f"webhook:github:{deadly}"):
                await asyncio.sleep(0.05)
        environment.worker_shutdown()
        await draining

        row = await delivery(sessions, deadly)
        assert (row.status, (row.cause or "").partition(":")[0]) == ("retrying", "Crash")
        # It stays the last change of its resource.
        assert (await delivery(sessions, before)).folded_into == deadly


class TestReconcile:
    @pytest.fixture
    def reconcile(self, sessions: Sessions, handling: Handling) -> ReconcileWebhooksActivities:
        return ReconcileWebhooksActivities(sessions, handling, Retrying(attempts=5))

    async def swept(self, reconcile: ReconcileWebhooksActivities, client: Client) -> Reconciled:
        return await ActivityEnvironment(client=client).run(reconcile.webhooks)

    async def test_starts_dispatchers_that_do_not_run(
        self, engine: AsyncEngine, client: Client, reconcile: ReconcileWebhooksActivities
    ) -> None:
        await self.swept(reconcile, client)
        handles = [client.get_workflow_handle(f"webhook-dispatch:{number}") for number in range(2)]
        before = [(await handle.describe()).run_id for handle in handles]
        await handles[1].terminate()

        await self.swept(reconcile, client)

        after = [await handle.describe() for handle in handles]
        assert {each.status for each in after} == {WorkflowExecutionStatus.RUNNING}
        assert [each.run_id == known for each, known in zip(after, before, strict=True)] == [True, False]

    async def test_gives_what_lost_its_workflow_another_with_the_attempts_that_are_left(
        self, engine: AsyncEngine, client: Client, reconcile: ReconcileWebhooksActivities
    ) -> None:
        past = {"lease_until": "now() - interval '1 s'", "attempts": "3"}
        [lost] = await add(engine, status="retrying", **past)
        await add(engine, status="retrying")

        found = [(await self.swept(reconcile, client)).webhook_deliveries for _ in range(2)]

        assert found == [1, 0]
        first = (await client.get_workflow_handle(f"webhook:github:{lost}").fetch_history()).events[0]
        given = json.loads(first.workflow_execution_started_event_attributes.input.payloads[0].data)
        assert (given["tried"], given["retrying"]["attempts"], given["left"]["handler"]) == (3, 5, "event")

    async def test_releases_a_brake_whose_delivery_is_settled_and_what_is_held_behind_none(
        self, engine: AsyncEngine, client: Client, reconcile: ReconcileWebhooksActivities
    ) -> None:
        [settled] = await add(engine, status="delivered")
        [tries] = await add(engine, status="retrying")
        await rows(engine, f"{HOLD} RETURNING 1", part=3, item=settled)
        await rows(engine, f"{HOLD} RETURNING 1", part=4, item=tries)
        await add(engine, part="4", due_at="'infinity'")
        await add(engine, part="5", due_at="'infinity'")

        found = await self.swept(reconcile, client)

        assert found.holds == 1
        still = await rows(engine, "SELECT part FROM service_ledger_holds WHERE released_at IS NULL")
        assert [row.part for row in still] == [4]
        held = await rows(engine, "SELECT part FROM service_webhook_deliveries WHERE due_at = 'infinity'")
        assert [row.part for row in held] == [4]
