from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from integrations.db import connections, credentials, ending, reauth, tasks
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, Credential, GrantEvent, OperatorTask
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.quiet_hours import QuietHours
from integrations.domain.reauth import (
    Activation,
    Candidate,
    Detected,
    Expire,
    Lifecycle,
    Opened,
    Opening,
    OpenLifecycle,
    Reminding,
)
from tests.factories import EVERYTHING, add_connection, add_credential, add_invitation, every, soon, stored

FIRST_ASKED = ["profile"]


async def detected(
    sessions: Sessions,
    connection_id: UUID,
    kind: Detected = Detected.REVOKED,
    *,
    version: int | None = 1,
    missing: tuple[str, ...] = (),
) -> UUID:
    async with sessions.begin() as session:
        return await connections.detect(
            session,
            connection_id,
            kind,
            cause=f"{kind} by the provider",
            actor="the test",
            version=version,
            evidence={"missing": list(missing)},
        )


async def opened(sessions: Sessions, vault: Vault, connection_id: UUID, lifecycle_id: UUID, **more: Any) -> Opened:
    wanted = OpenLifecycle(connection_id=connection_id, lifecycle_id=lifecycle_id, deadline=soon(), **more)
    async with sessions.begin() as session:
        return await reauth.open_lifecycle(session, vault, wanted, lambda _: FIRST_ASKED)


async def activated(sessions: Sessions, candidate: Candidate) -> Activation | None:
    async with sessions.begin() as session:
        return await ending.activate(session, candidate)


async def given_up(sessions: Sessions, connection_id: UUID) -> bool:
    async with sessions.begin() as session:
        row = await connections.lock(session, connection_id)
        among = [status for status in Status if status is not Status.DISCONNECTED]
        return await ending.give_up(session, row, among=among, reason="by hand", actor="ada", ended="expired")


async def candidate_of(sessions: Sessions, vault: Vault, lifecycle_id: UUID, **connection: Any) -> Candidate:
    """A connection whose owner consented: the candidate waits to be activated."""
    row = await add_connection(sessions, lifecycle_id=lifecycle_id, **connection)
    return await candidate_for(sessions, vault, row, lifecycle_id)


async def candidate_for(
    sessions: Sessions, vault: Vault, row: Connection, lifecycle_id: UUID, **changes: Any
) -> Candidate:
    invitation = await add_invitation(sessions, vault, row, lifecycle_id)
    fresh = await add_credential(sessions, vault, row.id, state="candidate", session_id=invitation.id, **changes)
    async with sessions.begin() as session:
        (await session.get_one(ConsentSession, invitation.id)).status = "exchanged"
        await tasks.open_task(session, row.id, "reauth", title="t", cause="c", way_out="w")
    return Candidate(
        connection_id=row.id,
        lifecycle_id=lifecycle_id,
        session_id=invitation.id,
        version=fresh.version,
        deadline=soon(),
    )


async def versions(sessions: Sessions, connection_id: UUID) -> dict[int, str]:
    return {row.version: row.state for row in await every(sessions, Credential, connection_id=connection_id)}


async def names(sessions: Sessions) -> list[str]:
    return [event.name for event in sorted(await every(sessions, OutboxEvent), key=lambda event: event.seq)]


class TestOpening:
    async def test_after_a_revocation_demotes_blocks_asks_and_tells(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        detection = await detected(sessions, connection.id)
        lifecycle = uuid4()

        answer = await opened(sessions, vault, connection.id, lifecycle)

        assert answer.opening is Opening.OPENED
        assert (answer.why, answer.account) == ("revoked by the provider", "a••@acme.example")
        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.lifecycle_id) == ("pending_reauth", lifecycle)
        assert (row.grants, row.missing_grants) == ([], EVERYTHING)
        invitation = await stored(sessions, ConsentSession, answer.session_id)
        assert (invitation.status, invitation.asked_grants) == ("invited", EVERYTHING)
        [task] = await every(sessions, OperatorTask)
        assert (task.status, task.session_id, task.cause) == ("open", answer.session_id, "revoked by the provider")
        assert task.way_out.endswith(f"runbook reauth link {connection.id}")
        handled = await stored(sessions, GrantEvent, detection)
        assert handled.lifecycle_id == lifecycle
        assert handled.handled_at is not None
        assert await names(sessions) == ["connection.pending_reauth", "reauth.invited"]
        assert await versions(sessions, connection.id) == {1: "active"}

    async def test_again_finds_it_done(self, sessions: Sessions, vault: Vault, connection: Connection) -> None:
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id)
        lifecycle = uuid4()

        first = await opened(sessions, vault, connection.id, lifecycle)
        second = await opened(sessions, vault, connection.id, lifecycle)

        assert second == first
        assert await names(sessions) == ["connection.pending_reauth", "reauth.invited"]
        assert len(await every(sessions, ConsentSession)) == len(await every(sessions, OperatorTask)) == 1

    async def test_for_missing_grants_asks_for_them_and_leaves_the_others(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id, Detected.DOWNGRADED, missing=("notes.write",))

        answer = await opened(sessions, vault, connection.id, uuid4())

        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.grants) == ("needs_reconsent", ["notes.read", "profile"])
        assert row.missing_grants == ["notes.write"]
        assert (await stored(sessions, ConsentSession, answer.session_id)).asked_grants == EVERYTHING

    async def test_believes_the_gravest_detection(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        for kind in (Detected.REQUESTED, Detected.DOWNGRADED, Detected.REVOKED):
            await detected(sessions, connection.id, kind)

        answer = await opened(sessions, vault, connection.id, uuid4())

        assert answer.why == "revoked by the provider"
        assert (await stored(sessions, Connection, connection.id)).status == "pending_reauth"
        assert all(event.handled_at for event in await every(sessions, GrantEvent))

    @pytest.mark.parametrize("kind", [Detected.REVOKED, Detected.DOWNGRADED])
    async def test_ends_when_a_newer_version_has_answered_already(
        self, sessions: Sessions, vault: Vault, connection: Connection, kind: Detected
    ) -> None:
        await add_credential(sessions, vault, connection.id, state="retired")
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id, kind, version=1)

        answer = await opened(sessions, vault, connection.id, uuid4())

        assert answer.opening is Opening.ALREADY_REPAIRED
        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.grants, row.lifecycle_id) == ("active", EVERYTHING, None)
        assert await every(sessions, ConsentSession) == []
        assert await every(sessions, OperatorTask) == []
        assert all(event.handled_at for event in await every(sessions, GrantEvent))

    @pytest.mark.parametrize(
        ("has", "opening"), [(["profile"], Opening.OPENED), (EVERYTHING, Opening.ALREADY_REPAIRED)]
    )
    async def test_for_missing_grants_ends_only_when_the_newer_version_has_them(
        self, sessions: Sessions, vault: Vault, has: list[str], opening: Opening
    ) -> None:
        connection = await add_connection(sessions, grants=has)
        await add_credential(sessions, vault, connection.id, state="retired")
        await add_credential(sessions, vault, connection.id, grants=has)
        await detected(sessions, connection.id, Detected.DOWNGRADED, missing=("notes.write",))

        assert (await opened(sessions, vault, connection.id, uuid4())).opening is opening

    async def test_on_a_persons_request_is_not_ended_by_a_refresh_in_between(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        async with sessions.begin() as session:
            await connections.detect(
                session,
                connection.id,
                Detected.REQUESTED,
                cause="Ada asks",
                actor="ada",
                version=1,
                evidence={"said_by": "ada"},
            )
        await add_credential(sessions, vault, connection.id, state="retired")
        await add_credential(sessions, vault, connection.id)

        answer = await opened(sessions, vault, connection.id, uuid4())

        assert (answer.opening, answer.why) == (Opening.OPENED, "Ada asks")

    async def test_bothers_no_owner_when_the_newer_version_is_stuck_on_our_own_mistake(
        self, sessions: Sessions, vault: Vault
    ) -> None:
        connection = await add_connection(sessions, status=Status.ERRORED)
        await add_credential(sessions, vault, connection.id, state="retired")
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id, version=1)

        answer = await opened(sessions, vault, connection.id, uuid4())

        assert answer.opening is Opening.ALREADY_REPAIRED
        assert await every(sessions, ConsentSession) == []

    async def test_on_request_demotes_nothing(self, sessions: Sessions, vault: Vault, connection: Connection) -> None:
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id, Detected.REQUESTED, version=None)

        answer = await opened(sessions, vault, connection.id, uuid4())

        assert answer.opening is Opening.OPENED
        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.grants) == ("active", EVERYTHING)
        assert await names(sessions) == ["reauth.invited"]

    async def test_a_first_connection_asks_for_what_the_catalog_wants(self, sessions: Sessions, vault: Vault) -> None:
        connection = await add_connection(sessions, status=Status.DISCONNECTED, grants=[], account_id=None)
        await detected(sessions, connection.id, Detected.REQUESTED, version=None)

        answer = await opened(sessions, vault, connection.id, uuid4())

        assert answer.opening is Opening.OPENED
        assert (await stored(sessions, ConsentSession, answer.session_id)).asked_grants == FIRST_ASKED
        [task] = await every(sessions, OperatorTask)
        assert task.title == "org:acme is asked to connect simulator"

    @pytest.mark.parametrize("kind", [Detected.REVOKED, Detected.DOWNGRADED])
    async def test_leaves_the_disconnected_disconnected(self, sessions: Sessions, vault: Vault, kind: Detected) -> None:
        connection = await add_connection(sessions, status=Status.DISCONNECTED)
        await detected(sessions, connection.id, kind)

        answer = await opened(sessions, vault, connection.id, uuid4())

        assert answer.opening is Opening.DISCONNECTED
        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.lifecycle_id) == ("disconnected", None)
        assert await every(sessions, ConsentSession) == []
        assert all(event.handled_at for event in await every(sessions, GrantEvent))

    async def test_a_second_lifecycle_replaces_the_first_ones_invitation(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id)
        first, second = uuid4(), uuid4()
        old = await opened(sessions, vault, connection.id, first)

        new = await opened(sessions, vault, connection.id, second)

        assert (await stored(sessions, ConsentSession, old.session_id)).status == "replaced"
        assert (await stored(sessions, ConsentSession, new.session_id)).lifecycle_id == second
        [task] = await every(sessions, OperatorTask)
        assert (task.lifecycle_id, task.session_id) == (second, new.session_id)
        async with sessions.begin() as session:
            stale = Lifecycle(connection_id=connection.id, lifecycle_id=first)
            assert await ending.locked_by(session, stale) is None


class TestWhatTheLifecycleHasToKnow:
    async def test_is_when_to_press_whom_and_since_when_something_is_blocked(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id)
        began = datetime.now(UTC)
        reminding = Reminding(after=(timedelta(hours=1),), quiet=QuietHours(starts=0, ends=0))

        answer = await opened(sessions, vault, connection.id, uuid4(), opened_at=began, reminding=reminding)

        [task] = await every(sessions, OperatorTask)
        assert answer.remind_at == (began + timedelta(hours=1),)
        assert answer.escalate_at == task.created_at + reminding.acknowledge_within
        assert answer.since == task.created_at == (await stored(sessions, Connection, connection.id)).status_since

    async def test_is_that_nobody_escalates_over_a_connection_that_works(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id, Detected.REQUESTED)

        any_hour = Reminding(quiet=QuietHours(starts=0, ends=0))
        answer = await opened(sessions, vault, connection.id, uuid4(), opened_at=datetime.now(UTC), reminding=any_hour)

        assert answer.escalate_at is None
        assert len(answer.remind_at) == 1  # the others are beyond the deadline

    async def test_is_that_nobody_escalates_over_who_has_acknowledged(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        lifecycle = uuid4()
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id)
        await opened(sessions, vault, connection.id, lifecycle)
        [task] = await every(sessions, OperatorTask)
        async with sessions.begin() as session:
            await tasks.acknowledge(session, task.id, by="ada")

        assert (await opened(sessions, vault, connection.id, lifecycle, opened_at=soon())).escalate_at is None

    async def test_is_that_a_consent_waits_which_an_ended_lifecycle_never_looked_at(
        self, sessions: Sessions, vault: Vault
    ) -> None:
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, grants=[], missing_grants=EVERYTHING)
        left = await add_invitation(sessions, vault, connection, uuid4())
        async with sessions.begin() as session:
            (await session.get_one(ConsentSession, left.id)).status = "received"
        lifecycle = uuid4()

        answer = await opened(sessions, vault, connection.id, lifecycle)

        assert (answer.session_id, answer.received) == (left.id, True)
        [taken_over] = await every(sessions, ConsentSession)
        assert (taken_over.lifecycle_id, taken_over.status) == (lifecycle, "received")

    @pytest.mark.parametrize("state", ["unchecked", "candidate"])
    async def test_is_nothing_of_what_an_ended_lifecycles_consent_brought(
        self, sessions: Sessions, vault: Vault, state: str
    ) -> None:
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, grants=[], missing_grants=EVERYTHING)
        left = await add_invitation(sessions, vault, connection, uuid4())
        await add_credential(sessions, vault, connection.id, state=state, session_id=left.id)
        async with sessions.begin() as session:
            (await session.get_one(ConsentSession, left.id)).status = "exchanging"

        await opened(sessions, vault, connection.id, uuid4())

        assert await versions(sessions, connection.id) == {}
        assert (await stored(sessions, ConsentSession, left.id)).status == "replaced"


class TestInvitingAgain:
    async def test_forgets_the_consent_and_says_why(self, sessions: Sessions, vault: Vault) -> None:
        lifecycle = uuid4()
        candidate = await candidate_of(sessions, vault, lifecycle, status=Status.PENDING_REAUTH)

        async with sessions.begin() as session:
            invited = await reauth.invite_again(
                session, vault, candidate, candidate.session_id, why="it did not work", deadline=soon()
            )

        assert invited
        old = await stored(sessions, ConsentSession, candidate.session_id)
        [fresh] = await every(sessions, ConsentSession, status="invited")
        [task] = await every(sessions, OperatorTask)
        assert (old.status, old.outcome) == ("refused", "it did not work")
        assert (fresh.lifecycle_id, fresh.why, fresh.asked_grants) == (lifecycle, "it did not work", EVERYTHING)
        assert (task.session_id, task.cause) == (fresh.id, "it did not work")
        assert await versions(sessions, candidate.connection_id) == {}

    async def test_again_without_anything_new_keeps_what_was_told_last(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        await detected(sessions, connection.id)
        lifecycle = uuid4()
        first = await opened(sessions, vault, connection.id, lifecycle)
        assert first.session_id is not None
        async with sessions.begin() as session:
            known = Lifecycle(connection_id=connection.id, lifecycle_id=lifecycle)
            why = "the consent was given by b••@other.example"
            await reauth.invite_again(session, vault, known, first.session_id, why=why, deadline=soon())

        again = await opened(sessions, vault, connection.id, lifecycle)

        [task] = await every(sessions, OperatorTask)
        assert (again.why, task.cause) == (why, why)

    async def test_twice_invites_once(self, sessions: Sessions, vault: Vault) -> None:
        candidate = await candidate_of(sessions, vault, uuid4(), status=Status.PENDING_REAUTH)

        answers = []
        for _ in range(2):
            async with sessions.begin() as session:
                answers.append(
                    await reauth.invite_again(
                        session, vault, candidate, candidate.session_id, why="no", deadline=soon()
                    )
                )

        assert answers == [True, False]
        assert len(await every(sessions, ConsentSession, status="invited")) == 1

    async def test_invites_nobody_to_what_was_given_up(self, sessions: Sessions, vault: Vault) -> None:
        candidate = await candidate_of(sessions, vault, uuid4(), status=Status.PENDING_REAUTH)
        await given_up(sessions, candidate.connection_id)

        async with sessions.begin() as session:
            invited = await reauth.invite_again(
                session, vault, candidate, candidate.session_id, why="no", deadline=soon()
            )

        assert not invited
        assert await every(sessions, ConsentSession, status="invited") == []

    async def test_leaves_another_lifecycles_candidate_alone(self, sessions: Sessions, vault: Vault) -> None:
        current = uuid4()
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=current)
        old = await add_invitation(sessions, vault, connection, uuid4())
        await candidate_for(sessions, vault, connection, current)
        stale = Lifecycle(connection_id=connection.id, lifecycle_id=old.lifecycle_id)

        async with sessions.begin() as session:
            await reauth.invite_again(session, vault, stale, old.id, why="late", deadline=soon())

        assert await versions(sessions, connection.id) == {1: "candidate"}


class TestLackingGrants:
    async def test_moves_the_connection_and_names_them(self, sessions: Sessions) -> None:
        lifecycle = uuid4()
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=lifecycle)

        async with sessions.begin() as session:
            mine = Lifecycle(connection_id=connection.id, lifecycle_id=lifecycle)
            await reauth.lack_grants(session, mine, ["notes.write"])

        row = await stored(sessions, Connection, connection.id)
        assert row.status == "needs_reconsent"
        assert "notes.write" in row.status_reason

    async def test_in_another_lifecycles_consent_changes_nothing(self, sessions: Sessions) -> None:
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=uuid4())

        async with sessions.begin() as session:
            stale = Lifecycle(connection_id=connection.id, lifecycle_id=uuid4())
            await reauth.lack_grants(session, stale, ["notes.write"])

        assert (await stored(sessions, Connection, connection.id)).status == "pending_reauth"


class TestActivating:
    async def test_repairs_the_connection_in_one_transaction(self, sessions: Sessions, vault: Vault) -> None:
        lifecycle = uuid4()
        connection = await add_connection(
            sessions, status=Status.PENDING_REAUTH, lifecycle_id=lifecycle, grants=[], missing_grants=EVERYTHING
        )
        await add_credential(sessions, vault, connection.id)
        candidate = await candidate_for(sessions, vault, connection, lifecycle)

        answer = await activated(sessions, candidate)

        assert answer is Activation.ACTIVE
        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.grants, row.missing_grants) == ("active", EVERYTHING, [])
        assert row.lifecycle_id is None
        assert await versions(sessions, connection.id) == {1: "retired", 2: "active"}
        assert (await stored(sessions, ConsentSession, candidate.session_id)).status == "completed"
        assert [task.status for task in await every(sessions, OperatorTask)] == ["closed"]
        assert [event.kind for event in await every(sessions, GrantEvent)] == ["granted"]
        assert await names(sessions) == ["reauth.invited", "connection.repaired"]

    @pytest.mark.parametrize(
        ("had", "has", "kind"),
        [
            (["profile"], ["notes.read", "profile"], "expanded"),
            (["notes.read", "profile"], ["profile"], "downgraded"),
            (["notes.read", "profile"], ["notes.write", "profile"], "downgraded"),
            (["profile"], ["profile"], "granted"),
            ([], ["profile"], "granted"),
        ],
    )
    async def test_tells_how_the_grants_changed(
        self, sessions: Sessions, vault: Vault, had: list[str], has: list[str], kind: str
    ) -> None:
        lifecycle = uuid4()
        connection = await add_connection(sessions, lifecycle_id=lifecycle, grants=had)
        candidate = await candidate_for(sessions, vault, connection, lifecycle, grants=has)

        await activated(sessions, candidate)

        [event] = await every(sessions, GrantEvent)
        assert (event.kind, event.handled_at is not None) == (kind, True)
        assert event.evidence["gained"] == sorted(set(has) - set(had)) or not had
        assert event.evidence["lost"] == sorted(set(had) - set(has))
        assert (await stored(sessions, Connection, connection.id)).grants == has

    async def test_again_says_the_same_and_does_nothing(self, sessions: Sessions, vault: Vault) -> None:
        candidate = await candidate_of(sessions, vault, uuid4(), status=Status.PENDING_REAUTH)
        await activated(sessions, candidate)
        told = await names(sessions)

        answer = await activated(sessions, candidate)

        assert answer is Activation.ACTIVE
        assert await names(sessions) == told
        assert await versions(sessions, candidate.connection_id) == {1: "active"}

    async def test_a_first_connection_learns_whose_account_it_is(self, sessions: Sessions, vault: Vault) -> None:
        candidate = await candidate_of(
            sessions, vault, uuid4(), status=Status.DISCONNECTED, account_id=None, account_name=None
        )
        async with sessions.begin() as session:
            invitation = await session.get_one(ConsentSession, candidate.session_id)
            invitation.account_id, invitation.account_name = "acct_7", "eve@acme.example"

        await activated(sessions, candidate)

        row = await stored(sessions, Connection, candidate.connection_id)
        assert (row.status, row.account_id, row.account_name) == ("active", "acct_7", "eve@acme.example")
        assert await names(sessions) == ["reauth.invited", "connection.connected"]

    async def test_a_fresh_consent_on_a_healthy_connection_is_told_too(self, sessions: Sessions, vault: Vault) -> None:
        lifecycle = uuid4()
        connection = await add_connection(sessions, lifecycle_id=lifecycle)
        await add_credential(sessions, vault, connection.id)
        candidate = await candidate_for(sessions, vault, connection, lifecycle)

        await activated(sessions, candidate)

        assert await versions(sessions, connection.id) == {1: "retired", 2: "active"}
        assert await names(sessions) == ["reauth.invited", "connection.credential_renewed"]

    async def test_is_void_after_the_connection_was_given_up(self, sessions: Sessions, vault: Vault) -> None:
        candidate = await candidate_of(sessions, vault, uuid4(), status=Status.PENDING_REAUTH)
        await given_up(sessions, candidate.connection_id)

        answer = await activated(sessions, candidate)

        assert answer is Activation.VOID
        assert (await stored(sessions, Connection, candidate.connection_id)).status == "disconnected"
        assert await versions(sessions, candidate.connection_id) == {}

    async def test_is_void_when_another_lifecycle_has_taken_over(self, sessions: Sessions, vault: Vault) -> None:
        candidate = await candidate_of(sessions, vault, uuid4(), status=Status.PENDING_REAUTH)
        stale = candidate.model_copy(update={"lifecycle_id": uuid4()})

        assert await activated(sessions, stale) is Activation.VOID
        assert (await stored(sessions, Connection, candidate.connection_id)).status == "pending_reauth"

    async def test_of_a_candidate_that_is_gone_leaves_the_old_version_active(
        self, sessions: Sessions, vault: Vault
    ) -> None:
        lifecycle = uuid4()
        connection = await add_connection(sessions, lifecycle_id=lifecycle)
        await add_credential(sessions, vault, connection.id)
        candidate = await candidate_for(sessions, vault, connection, lifecycle)
        async with sessions.begin() as session:
            await credentials.discard_candidates(session, connection.id)

        answer = await activated(sessions, candidate)

        assert answer is None  # the lifecycle goes on: it has invited afresh
        assert await versions(sessions, connection.id) == {1: "active"}
        assert (await stored(sessions, Connection, connection.id)).lifecycle_id == lifecycle

    @pytest.mark.parametrize("act", ["activate", "give up"])
    async def test_or_giving_up_an_errored_connection_leaves_no_task_behind(
        self, sessions: Sessions, vault: Vault, act: str
    ) -> None:
        candidate = await candidate_of(sessions, vault, uuid4(), status=Status.ERRORED)
        async with sessions.begin() as session:
            await tasks.open_task(session, candidate.connection_id, "errored", title="t", cause="c", way_out="w")

        if act == "activate":
            await activated(sessions, candidate)
        else:
            await given_up(sessions, candidate.connection_id)

        assert {task.status for task in await every(sessions, OperatorTask)} == {"closed"}


class TestGivingUp:
    async def test_ends_everything_that_waited(self, sessions: Sessions, vault: Vault) -> None:
        lifecycle = uuid4()
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=lifecycle)
        await add_credential(sessions, vault, connection.id)
        candidate = await candidate_for(sessions, vault, connection, lifecycle)

        assert await given_up(sessions, connection.id)

        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.status_reason, row.lifecycle_id) == ("disconnected", "by hand", None)
        assert (row.grants, row.missing_grants) == ([], EVERYTHING)
        assert await versions(sessions, connection.id) == {1: "retired"}
        assert (await stored(sessions, ConsentSession, candidate.session_id)).status == "expired"
        assert [task.status for task in await every(sessions, OperatorTask)] == ["closed"]
        assert await names(sessions) == ["reauth.invited", "connection.disconnected"]

    async def test_answers_what_was_detected_before(self, sessions: Sessions, connection: Connection) -> None:
        detection = await detected(sessions, connection.id, Detected.REQUESTED)

        await given_up(sessions, connection.id)

        assert (await stored(sessions, GrantEvent, detection)).handled_at is not None

    async def test_twice_is_told_once(self, sessions: Sessions, connection: Connection) -> None:
        answers = [await given_up(sessions, connection.id) for _ in range(2)]

        assert answers == [True, False]
        assert await names(sessions) == ["connection.disconnected"]


class TestExpiring:
    async def expired(self, sessions: Sessions, connection_id: UUID, lifecycle_id: UUID) -> None:
        async with sessions.begin() as session:
            await ending.expire(
                session, Expire(connection_id=connection_id, lifecycle_id=lifecycle_id, why="nobody came")
            )

    @pytest.mark.parametrize("status", [Status.PENDING_REAUTH, Status.NEEDS_RECONSENT])
    async def test_disconnects_who_is_blocked(self, sessions: Sessions, status: Status) -> None:
        lifecycle = uuid4()
        connection = await add_connection(sessions, status=status, lifecycle_id=lifecycle)

        await self.expired(sessions, connection.id, lifecycle)

        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.status_reason) == ("disconnected", "nobody came")

    async def test_only_closes_the_invitation_of_a_healthy_connection(self, sessions: Sessions, vault: Vault) -> None:
        lifecycle = uuid4()
        connection = await add_connection(sessions, lifecycle_id=lifecycle)
        await add_credential(sessions, vault, connection.id)
        invitation = await add_invitation(sessions, vault, connection, lifecycle)

        await self.expired(sessions, connection.id, lifecycle)

        row = await stored(sessions, Connection, connection.id)
        assert (row.status, row.lifecycle_id) == ("active", None)
        assert await versions(sessions, connection.id) == {1: "active"}
        assert (await stored(sessions, ConsentSession, invitation.id)).status == "expired"

    async def test_of_another_lifecycle_changes_nothing(self, sessions: Sessions) -> None:
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=uuid4())

        await self.expired(sessions, connection.id, uuid4())

        assert (await stored(sessions, Connection, connection.id)).status == "pending_reauth"
