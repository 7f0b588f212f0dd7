"""What a shield holds back, for whom, and what is due when it lifts."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from integrations.db import automation, connections, ending, reauth, reconcile, shield, surge
from integrations.db.automation_tables import WouldHaveDone
from integrations.db.session import Sessions
from integrations.db.surge_counts import Refusal
from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import Connection, Credential, GrantEvent
from integrations.db.vault import Vault
from integrations.domain.automation import FailureMode, Step
from integrations.domain.connection import Status
from integrations.domain.reauth import Activation, Candidate, Detected, Expire, Opened, Opening, OpenLifecycle
from integrations.domain.verdict import Meaning
from tests.automated import HOUR, look, pause
from tests.db.test_surge import HERE
from tests.factories import EVERYTHING, add_connection, add_credential, add_invitation, every, soon, stored
from tests.shielded import lapse, lift, put_up

LATER = datetime.now(UTC) + timedelta(hours=5)
LIFE = uuid4()


async def may(sessions: Sessions, row: Connection, step: Step = Step.BLOCK) -> bool:
    async with sessions.begin() as session:
        return await automation.may(session, row, FailureMode.REAUTH, step, cause="400 invalid_grant")


async def detected(
    sessions: Sessions, row: Connection, kind: Detected = Detected.REVOKED, *, ordered: bool = False, **more: Any
) -> UUID:
    given: dict[str, Any] = {"cause": "refused twice", "actor": "RefreshWorkflow", "version": 1} | more
    async with sessions.begin() as session:
        return await connections.detect(session, row.id, kind, ordered=ordered, **given)


async def opened(sessions: Sessions, vault: Vault, row: Connection) -> Opened:
    wanted = OpenLifecycle(connection_id=row.id, lifecycle_id=LIFE, deadline=soon())
    async with sessions.begin() as session:
        return await reauth.open_lifecycle(session, vault, wanted, lambda _: EVERYTHING)


async def set_aside(sessions: Sessions, *rows: Connection, **changes: Any) -> frozenset[UUID]:
    given = {"version": 1, "meaning": Meaning.OWNER_MUST_ACT, "rule": "grant-dead", "answer": "400 invalid_grant"}
    async with sessions.begin() as session:
        refused = [Refusal(connection_id=row.id, **(given | changes)) for row in rows]
        return await shield.set_aside(session, "Simulator", refused)


async def status(sessions: Sessions, row: Connection) -> str:
    return (await stored(sessions, Connection, row.id)).status


async def refresh_at(sessions: Sessions, row: Connection) -> datetime | None:
    [kept] = await every(sessions, Credential, connection_id=row.id)
    return kept.refresh_at


@pytest.fixture
async def connected(sessions: Sessions, vault: Vault, connection: Connection) -> Connection:
    await add_credential(sessions, vault, connection.id, refresh_at=LATER)
    return connection


class TestUnderAShield:
    @pytest.mark.parametrize("step", list(Step))
    async def test_nothing_is_done_to_a_connection_and_it_is_noted(
        self, sessions: Sessions, connection: Connection, step: Step
    ) -> None:
        assert await may(sessions, connection, step)
        await put_up(sessions)

        assert not await may(sessions, connection, step)

        [noted] = await every(sessions, WouldHaveDone)
        assert (noted.connection_id, noted.step, noted.cause) == (connection.id, step, "400 invalid_grant")

    async def test_the_words_name_the_provider_and_since_when(self, sessions: Sessions, connection: Connection) -> None:
        await put_up(sessions)

        async with sessions.begin() as session:
            told = await automation.why_not(session, FailureMode.REAUTH, connection)
            alone = await shield.why(session, connection)
        [up] = (await look(sessions)).shields

        assert told == alone == f"shielded: outage of simulator since {up.since:%H:%M} UTC"

    async def test_others_are_acted_on(self, sessions: Sessions, connection: Connection) -> None:
        await put_up(sessions, "github")
        await put_up(sessions, tenant="org:other")

        assert await may(sessions, connection)
        async with sessions.begin() as session:
            assert await automation.why_not(session, FailureMode.REAUTH) is None, "of no connection, it is about pauses"

    async def test_of_a_tenant_only_that_one_is_spared(self, sessions: Sessions, connection: Connection) -> None:
        await put_up(sessions, tenant="org:acme")

        assert not await may(sessions, connection)
        assert await may(sessions, await add_connection(sessions, scope_id="acme2"))

    async def test_it_holds_whatever_its_lease_until_it_is_released(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        outage_id = await put_up(sessions)
        await lapse(sessions)
        assert not await may(sessions, connection)

        await lift(sessions, outage_id)

        assert await may(sessions, connection)

    async def test_it_is_asked_for_with_the_pauses_in_one_statement(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        await put_up(sessions)
        await pause(sessions, FailureMode.REAUTH, FailureMode.OUTAGE, lease=HOUR)

        assert not await may(sessions, connection)
        async with sessions.begin() as session:
            assert (await automation.why_not(session, FailureMode.REAUTH, connection) or "").startswith("shielded")
            assert (await automation.why_not(session, FailureMode.REAUTH) or "").startswith("reauth is paused")

    async def test_no_lifecycle_opens_by_itself_and_one_does_by_a_persons_order(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        await detected(sessions, connected)
        await put_up(sessions)

        assert (await opened(sessions, vault, connected)).opening is Opening.LEFT
        assert await status(sessions, connected) == "active"
        await detected(sessions, connected, ordered=True)
        assert (await opened(sessions, vault, connected)).opening is Opening.OPENED
        assert await status(sessions, connected) == "pending_reauth"

    async def test_a_deadline_waits(self, sessions: Sessions, vault: Vault) -> None:
        row = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=LIFE, grants=[])
        await add_invitation(sessions, vault, row, LIFE)
        expired = Expire(connection_id=row.id, lifecycle_id=LIFE, why="nobody came within 14 days")
        outage_id = await put_up(sessions)

        async with sessions.begin() as session:
            assert not await ending.may_expire(session, expired)
        await lift(sessions, outage_id)
        async with sessions.begin() as session:
            assert await ending.may_expire(session, expired)

    async def test_a_consent_still_repairs(self, sessions: Sessions, vault: Vault) -> None:
        row = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=LIFE, grants=[])
        invitation = await add_invitation(sessions, vault, row, LIFE)
        kept = await add_credential(sessions, vault, row.id, state="candidate", session_id=invitation.id)
        await put_up(sessions)

        candidate = Candidate(
            connection_id=row.id, lifecycle_id=LIFE, session_id=invitation.id, version=kept.version, deadline=soon()
        )
        async with sessions.begin() as session:
            assert await ending.activate(session, candidate) is Activation.ACTIVE

        assert await status(sessions, row) == "active"

    async def test_reconcile_announces_what_people_ordered_and_what_is_elsewhere(
        self, sessions: Sessions, connected: Connection
    ) -> None:
        ordered = await add_connection(sessions)
        elsewhere = await add_connection(sessions, provider_id="github")
        await detected(sessions, connected)
        wanted = {await detected(sessions, ordered, ordered=True), await detected(sessions, elsewhere)}
        async with sessions.begin() as session:
            await session.execute(text("UPDATE service_grant_events SET noticed_at = now() - interval '5 min'"))
        await put_up(sessions)

        async with sessions.begin() as session:
            assert set(await reconcile.unhandled_detections(session)) == wanted


class TestATerminalAnswer:
    async def test_is_set_aside_where_a_shield_is_up(self, sessions: Sessions, connection: Connection) -> None:
        elsewhere = await add_connection(sessions, provider_id="github")
        assert await set_aside(sessions, connection, elsewhere) == frozenset()
        await put_up(sessions)

        for _ in range(2):
            assert await set_aside(sessions, connection, elsewhere) == {connection.id}

        [noted] = await every(sessions, WouldHaveDone)
        assert (noted.step, noted.times) == (Step.BLOCK, 2)
        assert noted.cause == "Simulator refused a refresh: 400 invalid_grant"

    @pytest.mark.parametrize(
        ("changes", "step"),
        [({}, Step.BLOCK), ({"meaning": Meaning.OPERATOR_MUST_ACT}, Step.ERRORED), ({"contested": True}, Step.CONTEST)],
    )
    async def test_is_noted_as_what_it_would_have_led_to(
        self, sessions: Sessions, connection: Connection, changes: dict[str, Any], step: Step
    ) -> None:
        await put_up(sessions)
        await set_aside(sessions, connection, **changes)

        assert [each.step for each in (await look(sessions)).undone] == [step]

    async def test_that_was_set_aside_makes_no_surge_of_later_ones(self, sessions: Sessions, vault: Vault) -> None:
        rows = [await add_connection(sessions) for _ in range(10)]
        for row in rows:
            await add_credential(sessions, vault, row.id)
        outage_id = await put_up(sessions)
        assert len(await set_aside(sessions, *rows)) == 10
        assert await every(sessions, RefreshRefusal) == []

        await lift(sessions, outage_id)

        for row in rows[:4]:
            refused = Refusal(row.id, 1, Meaning.OWNER_MUST_ACT, "grant-dead", "400 invalid_grant")
            async with sessions.begin() as session:
                assert await surge.suspected(session, HERE, refused) is None


class TestWhenItLifts:
    async def test_what_was_set_aside_is_due_at_once_and_nothing_else(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        other = await add_connection(sessions)
        await add_credential(sessions, vault, other.id, refresh_at=LATER)
        outage_id = await put_up(sessions)
        await set_aside(sessions, connected)

        assert await lift(sessions, outage_id) == 1

        assert (await refresh_at(sessions, connected) or LATER) <= datetime.now(UTC)
        assert await refresh_at(sessions, other) == LATER

    async def test_what_was_held_back_before_it_is_let_alone(self, sessions: Sessions, connected: Connection) -> None:
        await pause(sessions)
        await may(sessions, connected)
        outage_id = await put_up(sessions)

        assert await lift(sessions, outage_id) == 0

    async def test_what_was_set_aside_elsewhere_is_let_alone(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        elsewhere = await add_connection(sessions, provider_id="github")
        await add_credential(sessions, vault, elsewhere.id, refresh_at=LATER)
        outage_id, _ = await put_up(sessions), await put_up(sessions, "github")
        await set_aside(sessions, connected, elsewhere)

        assert await lift(sessions, outage_id) == 1

        assert await refresh_at(sessions, elsewhere) == LATER

    async def test_a_revocation_that_was_confirmed_in_it_is_asked_for_again_and_not_acted_on(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        found = await detected(sessions, connected)
        outage_id = await put_up(sessions)

        assert await lift(sessions, outage_id) == 1

        assert (await stored(sessions, GrantEvent, found)).handled_at is not None
        assert (await opened(sessions, vault, connected)).opening is Opening.ALREADY_REPAIRED
        assert await status(sessions, connected) == "active"

    @pytest.mark.parametrize("ordered", [True, False])
    async def test_what_a_person_ordered_and_what_an_owner_alone_can_mend_stays_to_be_done(
        self, sessions: Sessions, connected: Connection, *, ordered: bool
    ) -> None:
        """A rotation whose answer was lost: its token is never sent again, so nothing is due."""
        kind = Detected.REVOKED if ordered else Detected.REQUESTED
        found = await detected(sessions, connected, kind, ordered=ordered)
        outage_id = await put_up(sessions)

        assert await lift(sessions, outage_id) == 0

        assert (await stored(sessions, GrantEvent, found)).handled_at is None

    async def test_what_can_not_be_refreshed_keeps_its_detection(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id, refresh_at=None)
        found = await detected(sessions, connection)
        outage_id = await put_up(sessions)

        assert await lift(sessions, outage_id) == 0

        assert (await stored(sessions, GrantEvent, found)).handled_at is None

    async def test_each_shield_is_asked_for_what_came_under_it(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        """Of one outage a provider was shielded later than another. What a pause held back before that is no news."""
        late = await add_connection(sessions, provider_id="github")
        for row in (connection, late):
            await add_credential(sessions, vault, row.id, refresh_at=LATER)
        outage_id = await put_up(sessions, at=timedelta(hours=-1))
        await pause(sessions)
        await may(sessions, late)
        await set_aside(sessions, connection)
        await put_up(sessions, "github", outage_id=outage_id)

        assert await lift(sessions, outage_id) == 1

        assert await refresh_at(sessions, late) == LATER

    async def test_nothing_is_set_aside_any_more(self, sessions: Sessions, connected: Connection) -> None:
        await lift(sessions, await put_up(sessions))

        assert await set_aside(sessions, connected) == frozenset()

    async def test_it_is_safe_to_repeat(self, sessions: Sessions, connected: Connection) -> None:
        outage_id = await put_up(sessions)
        await set_aside(sessions, connected)
        assert [await lift(sessions, outage_id) for _ in range(2)] == [1, 1]
