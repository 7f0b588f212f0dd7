"""What reconcile and the announcement tell Temporal. No worker runs: what was started and signalled is read back."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.detection import DetectionActivities
from activities.reconcile import ReconcileActivities, Reconciled
from integrations.db import connections, contacts, tasks
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, GrantEvent
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.quiet_hours import QuietHours
from integrations.domain.reauth import (
    Detected,
    Detection,
    Reminding,
    RepairedElsewhere,
    Terms,
)
from integrations.temporal import CAUSE, DEADLINE, STEP
from tests.activities.told import Told
from tests.factories import add_connection, add_invitation, every

LONG_AGO = datetime.now(UTC) - timedelta(minutes=5)


async def add_task(sessions: Sessions, connection: Connection) -> None:
    async with sessions.begin() as session:
        await tasks.open_task(session, connection.id, "reauth", title="t", cause="c", way_out="w")


async def detected(sessions: Sessions, connection_id: UUID) -> UUID:
    async with sessions.begin() as session:
        return await connections.detect(
            session, connection_id, Detected.REVOKED, cause="revoked", actor="test", version=1
        )


async def announced(
    env: WorkflowEnvironment, sessions: Sessions, detection_id: UUID, terms: Terms | None = None
) -> str:
    steps = DetectionActivities(sessions, terms or Terms())
    return await ActivityEnvironment(client=env.client).run(steps.announce, Detection(detection_id=detection_id))


async def repaired(env: WorkflowEnvironment, sessions: Sessions, connection: Connection) -> None:
    steps = DetectionActivities(sessions, Terms())
    told = RepairedElsewhere(connection_id=connection.id, provider_id="simulator", by="ada", reason="a refresh works")
    await ActivityEnvironment(client=env.client).run(steps.tell_repaired, told)


async def reconciled(env: WorkflowEnvironment, sessions: Sessions) -> Reconciled:
    return await ActivityEnvironment(client=env.client).run(ReconcileActivities(sessions, Terms()).reauth)


class TestAnAnnouncement:
    async def test_opens_the_lifecycle_and_the_next_one_joins_it(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection, told: Told
    ) -> None:
        first, second = [await detected(sessions, connection.id) for _ in range(2)]

        ids = [await announced(time_skipping, sessions, detection) for detection in (first, second)]

        assert ids == [f"reauth:simulator:{connection.id}"] * 2
        assert await told.signals(connection) == ["detected", "detected"]

    async def test_begins_it_on_the_settings_terms_and_with_its_owners_quiet_hours(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection, told: Told
    ) -> None:
        quiet = QuietHours(zone="Europe/Berlin", starts=22, ends=7)
        async with sessions.begin() as session:
            await contacts.put(session, "org", "acme", quiet, by="ada")
        terms = Terms(patience=timedelta(days=3), reminding=Reminding(after=(timedelta(hours=1),)))

        await announced(time_skipping, sessions, await detected(sessions, connection.id), terms)

        begun = await told.request(connection)
        assert begun.patience == timedelta(days=3)
        assert begun.reminding == Reminding(after=(timedelta(hours=1),), quiet=quiet)
        assert begun.cause == "revoked"

    async def test_can_be_found_by_step_and_cause_before_any_worker_has_seen_it(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection, told: Told
    ) -> None:
        workflow_id = await announced(time_skipping, sessions, await detected(sessions, connection.id))
        await told.signals(connection)

        described = await time_skipping.client.get_workflow_handle(workflow_id).describe()

        attributes = described.typed_search_attributes
        assert (attributes.get(STEP), attributes.get(CAUSE)) == ("wait", "revoked")
        assert attributes.get(DEADLINE) is not None


class TestARepairElsewhere:
    async def test_is_told_to_the_open_lifecycle(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection, told: Told
    ) -> None:
        await announced(time_skipping, sessions, await detected(sessions, connection.id))

        await repaired(time_skipping, sessions, connection)

        assert await told.signals(connection) == ["detected", "connection_repaired"]

    async def test_is_nothing_when_none_is_open(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection
    ) -> None:
        await repaired(time_skipping, sessions, connection)


class TestReconciling:
    async def test_finds_nothing_where_nothing_fell_between_two_commits(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection
    ) -> None:
        assert await reconciled(time_skipping, sessions) == Reconciled()

    async def test_announces_a_detection_that_nobody_heard_of(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection, told: Told
    ) -> None:
        detection = await detected(sessions, connection.id)
        async with sessions.begin() as session:
            (await session.get_one(GrantEvent, detection)).noticed_at = LONG_AGO

        found, again = [await reconciled(time_skipping, sessions) for _ in range(2)]

        assert (found, again) == (Reconciled(detections=1), Reconciled())
        assert await told.signals(connection) == ["detected"]

    async def test_restarts_the_lifecycle_of_a_blocked_connection_once(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, told: Told
    ) -> None:
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, status_since=LONG_AGO)
        await add_task(sessions, connection)

        first = await reconciled(time_skipping, sessions)
        second = await reconciled(time_skipping, sessions)

        assert (first.lifecycles, second.lifecycles) == (1, 0)
        assert await told.signals(connection) == ["detected"]
        [event] = await every(sessions, GrantEvent)
        assert (event.kind, event.actor) == ("revoked", "ReconcileWorkflow")

    async def test_wakes_a_lifecycle_whose_operators_have_no_task(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, told: Told
    ) -> None:
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, status_since=LONG_AGO)
        await announced(time_skipping, sessions, await detected(sessions, connection.id))

        found = await reconciled(time_skipping, sessions)

        assert found.lifecycles == 1
        assert await told.signals(connection) == ["detected", "detected"]
        assert len(await every(sessions, GrantEvent)) == 1

    async def test_tells_a_lifecycle_whose_connection_was_given_up(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection, told: Told
    ) -> None:
        await announced(time_skipping, sessions, await detected(sessions, connection.id))
        async with sessions.begin() as session:
            row = await session.get_one(Connection, connection.id)
            row.status, row.status_since = Status.DISCONNECTED, LONG_AGO
            for event in await session.scalars(select(GrantEvent)):
                event.handled_at = LONG_AGO
        await told.listed(connection)

        found = await reconciled(time_skipping, sessions)

        assert found.ended == 1
        assert await told.signals(connection) == ["detected", "connection_repaired"]

    async def test_believes_the_lifecycle_itself_when_the_list_lags_behind(
        self,
        time_skipping: WorkflowEnvironment,
        sessions: Sessions,
        told: Told,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, status_since=LONG_AGO)
        await add_task(sessions, connection)
        await announced(time_skipping, sessions, await detected(sessions, connection.id))
        monkeypatch.setattr("activities.reconcile._RUNNING", "WorkflowType = 'NotListedYet'")

        found = await reconciled(time_skipping, sessions)

        assert found.lifecycles == 0
        assert await told.signals(connection) == ["detected"]

    async def test_leaves_a_lifecycle_alone_that_has_not_opened_yet(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, told: Told
    ) -> None:
        connection = await add_connection(sessions, status=Status.DISCONNECTED, status_since=LONG_AGO)
        async with sessions.begin() as session:
            detection = await connections.detect(
                session, connection.id, Detected.REQUESTED, cause="a person asks", actor="ada", version=None
            )
        await announced(time_skipping, sessions, detection)
        await told.listed(connection)

        found = await reconciled(time_skipping, sessions)

        assert found.ended == 0
        assert await told.signals(connection) == ["detected"]

    async def test_signals_a_consent_whose_signal_was_lost(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, vault: Vault, connection: Connection, told: Told
    ) -> None:
        await announced(time_skipping, sessions, await detected(sessions, connection.id))
        invitation = await add_invitation(sessions, vault, connection, uuid4())
        async with sessions.begin() as session:
            row = await session.get_one(ConsentSession, invitation.id)
            row.status, row.received_at = "received", LONG_AGO

        first = await reconciled(time_skipping, sessions)
        second = await reconciled(time_skipping, sessions)

        assert (first.consents, second.consents) == (1, 0)
        assert await told.signals(connection) == ["detected", "consent_received"]

    async def test_is_not_stopped_by_a_consent_whose_lifecycle_has_ended(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        invitation = await add_invitation(sessions, vault, connection, uuid4())
        async with sessions.begin() as session:
            row = await session.get_one(ConsentSession, invitation.id)
            row.status, row.received_at = "received", LONG_AGO

        assert (await asyncio.wait_for(reconciled(time_skipping, sessions), 10)).consents == 1
