"""Reconcile with its real steps, real rows and the real server: what fell between two commits gets its next step."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.reconcile import Reconciled
from integrations.db.outbox_trouble import leave_flow, settle_events
from integrations.db.session import Sessions
from integrations.domain.connection import reauth_id
from integrations.domain.ledger import Failure
from integrations.domain.outbox import Delivered
from integrations.domain.reauth import ReauthOutcome, ReauthResult
from integrations.domain.replay import Outcome, PlanStatus
from integrations.providers.oauth import Providers
from integrations.settings import Settings, load
from tests.outbox.events import add_events, rows, statuses
from tests.outbox.plans import add_dead, begun, made
from worker.plugin import runbook_plugin
from worker.wiring import build_workers
from workflows.queues import WORKFLOWS
from workflows.reconcile import ReconcileWorkflow


async def connection(sessions: Sessions, status: str) -> UUID:
    """A connection that got its status an hour ago and has nothing else."""
    connection_id = uuid4()
    async with sessions.begin() as session:
        await session.execute(
            text(
                "INSERT INTO service_connections (id, provider_id, scope_type, scope_id, status, status_reason, "
                "status_since, account_name, missing_grants) VALUES (:id, 'simulator', 'org', 'acme', :status, "
                "'refused twice', now() - interval '1 hour', 'ada@acme.example', '{notes.read}')"
            ),
            {"id": connection_id, "status": status},
        )
    return connection_id


async def count(sessions: Sessions, sql: str, connection_id: UUID) -> int:
    async with sessions.begin() as session:
        return int(await session.scalar(text(sql), {"id": connection_id}) or 0)


async def run(sessions: Sessions, sql: str, connection_id: UUID, **values: object) -> None:
    async with sessions.begin() as session:
        await session.execute(text(sql), {"id": connection_id} | values)


async def detection(sessions: Sessions, connection_id: UUID, kind: str) -> None:
    """A detection of an hour ago that nobody announced."""
    sql = "INSERT INTO service_grant_events (id, connection_id, kind, cause, actor, noticed_at) "
    sql += "VALUES (:event, :id, :kind, 'refused twice', 'test', clock_timestamp() - interval '1 hour')"
    await run(sessions, sql, connection_id, event=uuid4(), kind=kind)


async def until_true(sessions: Sessions, sql: str, connection_id: UUID) -> None:
    async with asyncio.timeout(30):
        while not await count(sessions, sql, connection_id):
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def client(time_skipping: WorkflowEnvironment) -> Client:
    """The same server with its clock let alone: fourteen days must not pass while a lifecycle is looked at."""
    address = time_skipping.client.service_client.config.target_host
    return await Client.connect(address, plugins=[runbook_plugin()])


async def terminated(client: Client, numbers: range) -> None:
    """Dispatchers ended by hand, those that run."""
    for number in numbers:
        with contextlib.suppress(RPCError):
            await client.get_workflow_handle(f"outbox-dispatch:{number}").terminate()


@pytest_asyncio.fixture
async def working(
    client: Client, engine: object, providers: Providers, database_url: str, base64_key: str
) -> AsyncIterator[None]:
    """The production's worker, with everything in it real."""
    settings: Settings = load({"database_url": database_url, "key": base64_key}, environment={})
    async with asyncio.TaskGroup() as group:
        workers = build_workers(client, engine, providers, {}, settings, ["simulator"])  # type: ignore[arg-type]
        running = [group.create_task(worker.run()) for worker in workers]
        yield
        # A sweep starts what is always on; whoever comes next wants none of it.
        await terminated(client, range(4))
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await asyncio.gather(*running)


async def swept(client: Client) -> Reconciled:
    handle = await client.start_workflow(ReconcileWorkflow.run, id=f"reconcile-{uuid4()}", task_queue=WORKFLOWS)
    return await asyncio.wait_for(handle.result(), 30)


class TestReconcile:
    async def test_starts_the_lifecycle_that_a_blocked_connection_lacks(
        self, working: None, client: Client, sessions: Sessions
    ) -> None:
        blocked = await connection(sessions, "pending_reauth")
        healthy = await connection(sessions, "active")

        first = await swept(client)
        lifecycle = client.get_workflow_handle(reauth_id("simulator", blocked), result_type=ReauthResult)
        async with asyncio.timeout(30):
            while not await count(
                sessions, "SELECT count(*) FROM service_operator_tasks WHERE connection_id = :id", blocked
            ):
                await asyncio.sleep(0.05)
        second = await swept(client)
        await lifecycle.terminate()

        tasks = "SELECT count(*) FROM service_operator_tasks WHERE connection_id = :id AND status <> 'closed'"
        invited = "SELECT count(*) FROM service_consent_sessions WHERE connection_id = :id AND status = 'invited'"
        assert (first.lifecycles, second.lifecycles) == (1, 0)
        assert await count(sessions, tasks, blocked) == 1
        assert await count(sessions, invited, blocked) == 1
        assert await count(sessions, tasks, healthy) == 0

    async def test_announces_a_detection_whose_writer_died(
        self, working: None, client: Client, sessions: Sessions
    ) -> None:
        dead = await connection(sessions, "active")
        await detection(sessions, dead, "revoked")

        result = await swept(client)
        sql = "SELECT count(*) FROM service_connections WHERE id = :id AND status = 'pending_reauth'"
        async with asyncio.timeout(30):
            while not await count(sessions, sql, dead):
                await asyncio.sleep(0.05)
        await client.get_workflow_handle(reauth_id("simulator", dead)).terminate()

        assert result.detections == 1

    async def test_opens_a_blocked_connections_task_again_and_leaves_a_working_ones_closed(
        self, working: None, client: Client, sessions: Sessions
    ) -> None:
        blocked, works = await connection(sessions, "pending_reauth"), await connection(sessions, "active")
        await detection(sessions, works, "requested")
        tasks = "SELECT count(*) FROM service_operator_tasks WHERE connection_id = :id AND status <> 'closed'"
        await swept(client)
        for each in (blocked, works):
            await until_true(sessions, tasks, each)
            await run(sessions, "UPDATE service_operator_tasks SET status = 'closed' WHERE connection_id = :id", each)

        second = await swept(client)
        await until_true(sessions, tasks, blocked)
        third = await swept(client)
        left_closed = await count(sessions, tasks, works)
        for each in (blocked, works):
            await client.get_workflow_handle(reauth_id("simulator", each)).terminate()

        assert (second.lifecycles, third.lifecycles) == (1, 0)
        assert left_closed == 0

    async def test_ends_the_lifecycle_of_a_connection_whose_disconnecter_died(
        self, working: None, client: Client, sessions: Sessions
    ) -> None:
        given_up = await connection(sessions, "pending_reauth")
        await swept(client)
        await until_true(sessions, "SELECT count(*) FROM service_consent_sessions WHERE connection_id = :id", given_up)
        await run(
            sessions,
            "UPDATE service_connections SET status = 'disconnected', lifecycle_id = NULL WHERE id = :id",
            given_up,
        )
        lifecycle = client.get_workflow_handle(reauth_id("simulator", given_up), result_type=ReauthResult)

        async with asyncio.timeout(30):
            while not (await swept(client)).ended:  # the list of running workflows lags a little behind
                await asyncio.sleep(0.1)
        result = await asyncio.wait_for(lifecycle.result(), 30)

        assert result.outcome is ReauthOutcome.DISCONNECTED

    async def test_goes_on_past_one_that_fails(self, working: None, client: Client, sessions: Sessions) -> None:
        wrong, right = await connection(sessions, "active"), await connection(sessions, "active")
        await run(sessions, "UPDATE service_connections SET scope_id = repeat('x', 3000) WHERE id = :id", wrong)
        await detection(sessions, wrong, "revoked")  # the older one: it is met first
        await detection(sessions, right, "revoked")

        result = await swept(client)
        await until_true(
            sessions, "SELECT count(*) FROM service_connections WHERE id = :id AND status = 'pending_reauth'", right
        )
        await client.get_workflow_handle(reauth_id("simulator", right)).terminate()

        assert result.detections == 1


class TestReconcileOfTheOutbox:
    async def test_starts_the_dispatchers_that_do_not_run(
        self, working: None, client: Client, engine: AsyncEngine
    ) -> None:
        await swept(client)
        await terminated(client, range(4))
        await add_events(engine, 40, connections=8)

        await swept(client)

        async with asyncio.timeout(20):
            while await statuses(engine) != {"delivered": 40}:
                await asyncio.sleep(0.05)

    async def test_starts_the_attempts_at_a_projection_that_has_no_workflow(
        self, working: None, client: Client, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        lost, tried = await add_events(engine, 2, connections=2)
        for event_id in (lost, tried):
            async with sessions.begin() as session:
                await leave_flow(session, event_id, "activity", Failure.of("Check", "it is refused"))
                await settle_events(session, [event_id])
        overdue = "UPDATE service_projector_ledger SET lease_until = now() - interval '1 s' WHERE event_id = :id"
        await rows(engine, f"{overdue} RETURNING 1", id=lost)

        found = await swept(client)

        assert found.deliveries == 1
        handle = client.get_workflow_handle(f"outbox:activity:{lost}", result_type=Delivered)
        assert (await asyncio.wait_for(handle.result(), 20)).status == "delivered"
        assert await statuses(engine) == {"delivered": 1, "retrying": 1}

    async def test_goes_on_with_a_replay_that_was_terminated(
        self, working: None, client: Client, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        await add_dead(engine, 3)
        plan = await made(sessions)
        await begun(sessions, plan)

        await swept(client)

        handle = client.get_workflow_handle(f"replay:{plan.plan_id}", result_type=Outcome)
        outcome = await asyncio.wait_for(handle.result(), 30)
        assert (outcome.status, outcome.delivered) == (PlanStatus.DONE, 6)
        await swept(client)

    async def test_releases_a_hold_that_waits_for_nothing(
        self, working: None, client: Client, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        [event_id] = await add_events(engine)
        async with sessions.begin() as session:
            await leave_flow(session, event_id, "activity", Failure.of("Check", "it is refused"))
        await rows(engine, "UPDATE service_projector_ledger SET status = 'dead' RETURNING 1")

        found = await swept(client)

        assert found.holds == 1
