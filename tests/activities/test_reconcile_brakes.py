"""Brakes that nobody looks after, at a real Temporal: released where the workflow is gone, a person's where it runs."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import update
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities import reconcile_brakes
from activities.brakes import Brakes
from activities.reconcile import Reconciled
from activities.reconcile_brakes import ReconcileBrakesActivities
from integrations import task_queues, temporal
from integrations.db import outage_told, outages
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.outage_tables import Mitigation, Outage, OutageNote
from integrations.db.session import Sessions
from integrations.db.tables import OperatorTask
from integrations.domain.outage import Brake, Cut, Ended, OutageRequest, Target
from integrations.providers.oauth import Providers
from integrations.task_queues import Rates, provider_queue
from tests.activities.test_brakes import lets_out, somebody_sets
from tests.factories import every, stored
from tests.outage_rows import add_outage, close_outage
from worker.plugin import runbook_plugin

MINUTE = timedelta(minutes=1)


@pytest_asyncio.fixture
async def client(time_skipping: WorkflowEnvironment) -> AsyncIterator[Client]:
    """Nobody polls there: what is started stays as it was started."""
    address = time_skipping.client.service_client.config.target_host
    made = await Client.connect(address, plugins=[runbook_plugin()])
    yield made
    async for run in made.list_workflows("FailureMode = 'outage' AND ExecutionStatus = 'Running'"):
        await made.get_workflow_handle(run.id, run_id=run.run_id).terminate()


@pytest.fixture
def provider_id() -> str:
    return f"p{uuid4().hex[:12]}"


@pytest.fixture
def reconcile(sessions: Sessions, providers: Providers) -> ReconcileBrakesActivities:
    return ReconcileBrakesActivities(sessions, providers.catalog)


@pytest.fixture
def brakes(sessions: Sessions) -> Brakes:
    return Brakes(sessions)


async def braked(brakes: Brakes, client: Client, sessions: Sessions, provider_id: str) -> UUID:
    """An outage with three brakes on, of which the operators were told."""
    outage_id = await add_outage(sessions, provider_id)
    async with sessions.begin() as session:
        await outage_told.opened(session, outage_id, name=provider_id, done="calls are slowed down")
    cuts = [
        Cut(target=Target(provider_id=provider_id, brake=Brake.QUEUE), rate=0.5),
        Cut(target=Target(provider_id=provider_id, brake=Brake.CIRCUIT, name="token"), rate=0),
        Cut(target=Target(provider_id=provider_id, brake=Brake.SHIELD)),
    ]
    await brakes.put_on(client, outage_id, cuts, 2 * MINUTE, reason="503", by="outage-detector")
    return outage_id


async def ran_out(sessions: Sessions, ago: timedelta = MINUTE) -> None:
    async with sessions.begin() as session:
        await session.execute(update(Mitigation).values(lease_until=datetime.now(UTC) - ago))


async def seen(sessions: Sessions, ago: timedelta) -> None:
    """What was noted was noted so long ago."""
    async with sessions.begin() as session:
        await session.execute(update(OutageNote).values(at=OutageNote.at - ago))


async def swept(reconcile: ReconcileBrakesActivities, client: Client) -> Reconciled:
    return await ActivityEnvironment(client=client).run(reconcile.mitigations)


async def runs(client: Client, provider_id: str) -> None:
    await temporal.start_outage(client, OutageRequest(provider_id=provider_id, by="ada", reason="503"))


async def events(sessions: Sessions) -> list[str]:
    return sorted(row.name for row in await every(sessions, OutboxEvent))


class TestAnOutageWhoseWorkflowIsGone:
    async def test_is_abandoned_its_brakes_released_and_the_operators_told(
        self,
        reconcile: ReconcileBrakesActivities,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
    ) -> None:
        outage_id = await braked(brakes, client, sessions, provider_id)
        await runs(client, provider_id)
        await client.get_workflow_handle(f"outage:{provider_id}").terminate()
        await ran_out(sessions)

        assert await swept(reconcile, client) == Reconciled(outages=1)

        await lets_out(client, provider_id, None)
        lines = await every(sessions, Mitigation)
        assert {(row.brake, row.released_by) for row in lines} == {
            (brake, "reconcile") for brake in ("queue", "circuit", "shield")
        }
        outage = await stored(sessions, Outage, outage_id)
        assert (outage.ended, outage.closed_by) == (Ended.ABANDONED, "reconcile")
        assert "ended by hand" in (outage.closed_reason or "")
        [task] = await every(sessions, OperatorTask)
        assert task.status == "closed"
        assert await events(sessions) == ["provider.outage_closed", "provider.outage_opened"]
        assert await swept(reconcile, client) == Reconciled()

    async def test_keeps_its_brakes_until_their_leases_run_out(
        self,
        reconcile: ReconcileBrakesActivities,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
    ) -> None:
        await braked(brakes, client, sessions, provider_id)

        assert await swept(reconcile, client) == Reconciled()

        await lets_out(client, provider_id, 0.5)
        assert len(await every(sessions, Mitigation, released_at=None)) == 3

    async def test_and_that_somebody_begins_anew_meanwhile_is_theirs(
        self,
        reconcile: ReconcileBrakesActivities,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        outage_id = await braked(brakes, client, sessions, provider_id)
        await ran_out(sessions)

        async def gone_a_moment_ago(_client: Client, _workflow_id: str) -> bool:
            await brakes.hold(client, outage_id, 2 * MINUTE)
            return False

        monkeypatch.setattr(reconcile_brakes, "is_running", gone_a_moment_ago)

        assert await swept(reconcile, client) == Reconciled()

        await lets_out(client, provider_id, 0.5)
        assert (await stored(sessions, Outage, outage_id)).closed_at is None

    async def test_before_it_braked_is_closed_after_some_minutes(
        self, reconcile: ReconcileBrakesActivities, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        assert await swept(reconcile, client) == Reconciled()
        async with sessions.begin() as session:
            await session.execute(update(Outage).values(seen_at=Outage.seen_at - 6 * MINUTE))

        assert await swept(reconcile, client) == Reconciled(outages=1)

        assert (await stored(sessions, Outage, outage_id)).ended == Ended.ABANDONED

    async def test_closed_before_its_brakes_came_off_loses_them(
        self,
        reconcile: ReconcileBrakesActivities,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
    ) -> None:
        outage_id = await braked(brakes, client, sessions, provider_id)
        await close_outage(sessions, outage_id)
        await runs(client, provider_id)
        await ran_out(sessions)

        assert await swept(reconcile, client) == Reconciled(outages=1)

        await lets_out(client, provider_id, None)
        assert (await stored(sessions, Outage, outage_id)).ended == Ended.HEALED


class TestAnOutageWhoseWorkflowRuns:
    async def test_and_renews_nothing_is_a_persons_and_stays_braked(
        self,
        reconcile: ReconcileBrakesActivities,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
    ) -> None:
        await braked(brakes, client, sessions, provider_id)
        await runs(client, provider_id)
        await ran_out(sessions, 6 * MINUTE)
        # At first sight the workers may be up again since a second ago.
        assert await swept(reconcile, client) == Reconciled()
        assert await events(sessions) == ["provider.outage_opened"]
        await seen(sessions, MINUTE)

        for _ in range(2):
            assert await swept(reconcile, client) == Reconciled()

        assert await events(sessions) == ["provider.outage_opened", "provider.outage_unattended"]
        [task] = await every(sessions, OperatorTask)
        assert task.status == "open"
        assert "nobody looks after it" in task.title
        assert f"temporal workflow terminate --workflow-id outage:{provider_id}" in task.way_out
        await lets_out(client, provider_id, 0.5)
        assert len(await every(sessions, Mitigation, released_at=None)) == 3

    async def test_is_given_some_minutes(
        self,
        reconcile: ReconcileBrakesActivities,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
    ) -> None:
        await braked(brakes, client, sessions, provider_id)
        await runs(client, provider_id)
        await ran_out(sessions, 4 * MINUTE)

        await swept(reconcile, client)

        assert await every(sessions, OutageNote) == []


class TestAQueue:
    async def test_with_a_limit_of_ours_and_no_open_line_is_freed(
        self,
        reconcile: ReconcileBrakesActivities,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
    ) -> None:
        outage_id = await braked(brakes, client, sessions, provider_id)
        await brakes.release(client, outage_id, by="outage-detector", reason="healed")
        async with sessions.begin() as session:
            await outages.close(session, outage_id, Ended.HEALED, by="outage-detector", reason="healed")
        # By a step that was given up long ago, and went on after all.
        await task_queues.limit(client, provider_queue(provider_id), Rates(queue=0.5), reason="503", changed=True)
        await lets_out(client, provider_id, 0.5)

        assert await swept(reconcile, client) == Reconciled(queues=1)

        await lets_out(client, provider_id, None)
        await somebody_sets(client, provider_id, 7)
        assert await swept(reconcile, client) == Reconciled()
        await lets_out(client, provider_id, 7)
