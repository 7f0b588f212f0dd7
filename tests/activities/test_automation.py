"""A platform that may not act by itself: what it finds is kept, what people order is done, and the rest comes later."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.detection import announce
from activities.reauth import ReauthActivities
from activities.reconcile import ReconcileActivities
from activities.refresh import RefreshActivities
from integrations.db import automation, connections
from integrations.db.automation_tables import WouldHaveDone
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, Credential, GrantEvent, OperatorTask, Transition
from integrations.db.vault import Vault
from integrations.domain.automation import Conduct, FailureMode, Step
from integrations.domain.connection import Status
from integrations.domain.errors import TryAgainError
from integrations.domain.reauth import Detected, Expire, OpenLifecycle, Terms
from integrations.domain.refresh import Refresh, RefreshStep
from integrations.domain.verdict import Meaning
from integrations.providers.oauth import Providers
from tests.activities.connected import altered, connected
from tests.activities.told import Told
from tests.automated import conduct, look, pause, resume
from tests.factories import add_connection, add_invitation, every, soon, stored
from tests.providers.person import Person

LONG_AGO = datetime.now(UTC) - timedelta(minutes=5)
LIFE = uuid4()


async def detected(sessions: Sessions, row: Connection, *, ordered: bool = False, seen: bool = False) -> None:
    async with sessions.begin() as session:
        found = await connections.detect(
            session, row.id, Detected.REVOKED, cause="revoked", actor="test", version=1, ordered=ordered
        )
        event = await session.get_one(GrantEvent, found)
        event.noticed_at, event.announced_at = LONG_AGO, LONG_AGO if seen else None


async def swept(env: WorkflowEnvironment, sessions: Sessions) -> tuple[int, int]:
    """What reconcile gave its next step: detections, and lifecycles."""
    found = await ActivityEnvironment(client=env.client).run(ReconcileActivities(sessions, Terms()).reauth)
    return found.detections, found.lifecycles


class TestADetection:
    async def test_of_the_platform_opens_no_lifecycle_until_it_may(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, connection: Connection, told: Told
    ) -> None:
        await detected(sessions, connection)
        [event] = await every(sessions, GrantEvent)
        await pause(sessions)

        assert await announce(time_skipping.client, sessions, Terms(), event.id) is None
        assert [await swept(time_skipping, sessions) for _ in range(2)] == [(0, 0)] * 2
        with pytest.raises(RPCError, match="not found"):
            await told.signals(connection)
        told.opened.clear()
        assert [(each.step, each.times) for each in (await look(sessions)).undone] == [(Step.BLOCK, 1)]

        await resume(sessions)
        assert await swept(time_skipping, sessions) == (1, 0)
        assert await told.signals(connection) == ["detected"]

    async def test_that_a_person_ordered_is_announced_and_nothing_stands_in_its_way(
        self,
        time_skipping: WorkflowEnvironment,
        sessions: Sessions,
        connection: Connection,
        told: Told,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("integrations.db.reconcile.BATCH", 1)
        await detected(sessions, await add_connection(sessions))
        await detected(sessions, connection, ordered=True)
        await conduct(sessions, Conduct.OBSERVE)

        assert await swept(time_skipping, sessions) == (1, 0)

        assert await told.signals(connection) == ["detected"]

    async def test_does_not_count_as_announced_when_the_pause_came_in_between(
        self,
        time_skipping: WorkflowEnvironment,
        sessions: Sessions,
        connection: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Reconcile looked before somebody paused, and announces after it."""
        await detected(sessions, connection)
        look_now, answers = automation.why_not, [None]

        async def why_not(session: AsyncSession, mode: FailureMode, row: Connection | None = None) -> str | None:
            return answers.pop() if answers else await look_now(session, mode, row)

        monkeypatch.setattr(automation, "why_not", why_not)
        await pause(sessions)

        await swept(time_skipping, sessions)

        [event] = await every(sessions, GrantEvent)
        assert event.announced_at is None


class TestReconcile:
    async def test_restarts_no_lifecycle_until_the_platform_may(
        self, time_skipping: WorkflowEnvironment, sessions: Sessions, told: Told
    ) -> None:
        row = await add_connection(sessions, status=Status.PENDING_REAUTH, status_since=LONG_AGO)
        await pause(sessions)

        assert await swept(time_skipping, sessions) == (0, 0)
        assert await every(sessions, GrantEvent) == []

        await resume(sessions)
        assert await swept(time_skipping, sessions) == (0, 1)
        assert await told.signals(row) == ["detected"]


class TestARefreshThatIsObserved:
    @pytest.fixture
    async def connection(self, sessions: Sessions, vault: Vault, providers: Providers, person: Person) -> Connection:
        return await connected(sessions, vault, providers, person)

    @pytest.fixture
    def steps(self, sessions: Sessions, vault: Vault, providers: Providers) -> RefreshActivities:
        return RefreshActivities(sessions, vault, providers)

    async def test_keeps_the_rotated_token(
        self, sessions: Sessions, steps: RefreshActivities, connection: Connection
    ) -> None:
        await conduct(sessions, Conduct.OBSERVE)

        for version in (2, 3):
            refreshed = await ActivityEnvironment().run(steps.refresh, RefreshStep(connection_id=connection.id))
            assert (refreshed.refresh, refreshed.version) == (Refresh.REFRESHED, version)

        assert await every(sessions, WouldHaveDone) == []

    async def test_of_a_dead_grant_changes_nothing_and_is_acted_upon_when_it_goes_live(
        self,
        time_skipping: WorkflowEnvironment,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
        steps: RefreshActivities,
        connection: Connection,
        person: Person,
        told: Told,
    ) -> None:
        await conduct(sessions, Conduct.OBSERVE)
        await person.revokes()
        before = await stored(sessions, Connection, connection.id)

        for _ in range(3):  # the sweep finds it each time
            step = RefreshStep(connection_id=connection.id, known_version=1)
            confirmed = await ActivityEnvironment().run(steps.confirm, step)
            assert confirmed.refresh is Refresh.REFUSED
            assert confirmed.detection_id is not None
            assert await announce(time_skipping.client, sessions, Terms(), confirmed.detection_id) is None

        after = await stored(sessions, Connection, connection.id)
        assert (after.status, after.grants, after.seq) == (Status.ACTIVE, before.grants, before.seq)
        for kind in (Transition, OutboxEvent, OperatorTask, ConsentSession):
            assert await every(sessions, kind) == []
        assert [row.state for row in await every(sessions, Credential)] == ["active"]
        [undone] = (await look(sessions)).undone
        assert (undone.step, undone.times) == (Step.BLOCK, 3)
        assert "400 invalid_grant" in undone.cause
        [event] = await every(sessions, GrantEvent)
        async with sessions.begin() as session:
            (await session.get_one(GrantEvent, event.id)).noticed_at = LONG_AGO

        await conduct(sessions, Conduct.ACT)
        assert await swept(time_skipping, sessions) == (1, 0)
        assert await told.signals(connection) == ["detected"]
        wanted = OpenLifecycle(connection_id=connection.id, lifecycle_id=LIFE, deadline=soon())
        await ActivityEnvironment().run(ReauthActivities(sessions, vault, providers, "").open, wanted)
        assert (await stored(sessions, Connection, connection.id)).status == Status.PENDING_REAUTH

    async def test_with_a_wrong_secret_errs_nobody(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection
    ) -> None:
        wrong = {
            "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID": "runbook",
            "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET": "another one",
        }
        steps = RefreshActivities(sessions, vault, altered(providers, environment=wrong))
        await conduct(sessions, Conduct.OBSERVE)

        step = RefreshStep(connection_id=connection.id, known_version=1, meaning=Meaning.OPERATOR_MUST_ACT)
        found = [(await ActivityEnvironment().run(steps.confirm, step)).refresh for _ in range(2)]

        assert found == [Refresh.OPERATOR_MUST_ACT] * 2
        assert (await stored(sessions, Connection, connection.id)).status == Status.ACTIVE
        assert await every(sessions, OperatorTask) == []
        assert [(each.step, each.times) for each in (await look(sessions)).undone] == [(Step.ERRORED, 2)]


class TestADeadline:
    async def test_is_asked_for_again_until_the_platform_may_and_the_note_stays(
        self, sessions: Sessions, vault: Vault, providers: Providers
    ) -> None:
        row = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=LIFE, grants=[])
        await add_invitation(sessions, vault, row, LIFE)
        steps = ReauthActivities(sessions, vault, providers, "")
        expired = Expire(connection_id=row.id, lifecycle_id=LIFE, why="nobody consented within 14 days")
        await pause(sessions)

        for _ in range(2):
            with pytest.raises(TryAgainError, match="not given up yet, although nobody consented within 14 days"):
                await ActivityEnvironment().run(steps.expire, expired)
        assert (await stored(sessions, Connection, row.id)).status == Status.PENDING_REAUTH
        assert [(each.step, each.times) for each in (await look(sessions)).undone] == [(Step.DISCONNECT, 2)]

        await resume(sessions)
        assert await ActivityEnvironment().run(steps.expire, expired) is None
        assert (await stored(sessions, Connection, row.id)).status == Status.DISCONNECTED
