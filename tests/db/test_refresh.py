from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from integrations.db import connections, credentials, ending, leases, refresh, tasks
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.refresh import Claim, Settled
from integrations.db.session import Sessions
from integrations.db.tables import (
    Connection,
    ConsentSession,
    Credential,
    GrantEvent,
    OperatorTask,
    RefreshLease,
    Transition,
)
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.reauth import Detected
from integrations.domain.run import Run
from integrations.providers.http import TIMEOUT
from tests.factories import EVERYTHING, add_connection, add_credential, add_invitation, every, stored, tokens

LIFE = uuid4()


@pytest.fixture
async def connected(sessions: Sessions, vault: Vault, connection: Connection) -> Connection:
    await add_credential(sessions, vault, connection.id)
    return connection


async def claimed(sessions: Sessions, connection_id: UUID) -> Claim:
    async with sessions.begin() as session:
        row = await connections.find(session, connection_id)
        current = await credentials.active(session, connection_id)
        assert current is not None
        claim = await refresh.claim(session, row, current)
        assert claim is not None
        return claim


async def settle(
    sessions: Sessions,
    vault: Vault,
    claim: Claim,
    grants: list[str] | None = None,
    optional: tuple[str, ...] = (),
    variables: dict[str, str] | None = None,
) -> Settled | None:
    async with sessions.begin() as session:
        return await refresh.settle(
            session,
            vault,
            claim,
            tokens("fresh"),
            granted=grants,
            wanted=[*EVERYTHING, "notes.delete"],
            optional=optional,
            variables=variables or {},
            expires_at=None,
            run=Run(workflow_id="refresh:1", run_id="run 1"),
            evidence={"rule": "success"},
        )


async def settled(sessions: Sessions, vault: Vault, claim: Claim, grants: list[str] | None = None) -> int | None:
    found = await settle(sessions, vault, claim, grants)
    return found.version if found else None


async def found(sessions: Sessions, claim: Claim, kind: Detected = Detected.REVOKED) -> UUID | None:
    async with sessions.begin() as session:
        return await refresh.detect(session, claim, kind, cause="refused twice", evidence={"answer": "400"})


async def errored(sessions: Sessions, claim: Claim) -> None:
    async with sessions.begin() as session:
        await refresh.mark_errored(
            session,
            claim,
            cause="invalid_client",
            way_out="correct the secret",
            evidence={"rule": "registration-wrong"},
        )


async def contested(sessions: Sessions, claim: Claim) -> None:
    async with sessions.begin() as session:
        await refresh.contest(session, claim, cause="it says both", way_out="look at it")


async def lose_the_lease(sessions: Sessions, claim: Claim) -> None:
    async with sessions.begin() as session:
        row = await session.get_one(RefreshLease, claim.connection.id)
        row.until = datetime.now(UTC) - timedelta(seconds=1)
    await claimed(sessions, claim.connection.id)


async def disconnect(sessions: Sessions, connection_id: UUID) -> None:
    async with sessions.begin() as session:
        row = await connections.lock(session, connection_id)
        await ending.give_up(session, row, among=(Status.ACTIVE,), reason="by hand", actor="ada", ended="expired")


async def versions(sessions: Sessions) -> dict[int, str]:
    return {row.version: row.state for row in await every(sessions, Credential)}


class TestClaiming:
    async def test_is_for_one_at_a_time(self, sessions: Sessions, connected: Connection) -> None:
        claim = await claimed(sessions, connected.id)

        async with sessions.begin() as session:
            second = await refresh.claim(session, claim.connection, claim.credential)

        assert second is None

    async def test_says_since_when_this_version_may_be_used_up(self, sessions: Sessions, connected: Connection) -> None:
        first = await claimed(sessions, connected.id)
        async with sessions.begin() as session:
            await leases.mark_sent(session, connected.id, first.token, 1)
            await leases.release(session, connected.id, first.token, answered=False)

        second = await claimed(sessions, connected.id)

        assert first.ambiguous_since is None
        assert second.ambiguous_since is not None
        assert not second.forgiven(timedelta(0))
        assert second.forgiven(timedelta(minutes=5))

    async def test_another_version_than_the_one_that_was_sent_is_not_ambiguous(
        self, sessions: Sessions, connected: Connection
    ) -> None:
        first = await claimed(sessions, connected.id)
        async with sessions.begin() as session:
            await leases.mark_sent(session, connected.id, first.token, 99)
            await leases.release(session, connected.id, first.token, answered=False)

        assert (await claimed(sessions, connected.id)).ambiguous_since is None


class TestSettling:
    async def test_stores_the_new_version_and_retires_the_old_one(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        claim = await claimed(sessions, connected.id)

        version = await settled(sessions, vault, claim)

        assert version == 2
        assert await versions(sessions) == {1: "retired", 2: "active"}
        [fresh] = await every(sessions, Credential, version=2)
        assert credentials.opened(vault, fresh) == tokens("fresh")
        assert fresh.grants == EVERYTHING
        assert (await claimed(sessions, connected.id)).token == 2

    async def test_keeps_the_grants_that_the_answer_names(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        await settled(sessions, vault, await claimed(sessions, connected.id), grants=["profile"])

        [fresh] = await every(sessions, Credential, version=2)
        assert fresh.grants == ["profile"]

    async def test_keeps_what_completes_addresses_and_takes_over_what_the_answer_tells_anew(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id, variables={"instance": "old", "realm": "7"})

        await settle(sessions, vault, await claimed(sessions, connection.id), variables={"instance": "new"})

        [fresh] = await every(sessions, Credential, version=2)
        assert fresh.variables == {"instance": "new", "realm": "7"}

    async def test_misses_no_grant_any_more_that_came_back(self, sessions: Sessions, vault: Vault) -> None:
        connection = await add_connection(
            sessions, status=Status.NEEDS_RECONSENT, grants=["profile"], missing_grants=["notes.read", "notes.write"]
        )
        await add_credential(sessions, vault, connection.id)

        await settle(sessions, vault, await claimed(sessions, connection.id), ["notes.read", "profile"])

        row = await stored(sessions, Connection, connection.id)
        assert (row.grants, row.missing_grants) == (["notes.read", "profile"], ["notes.write"])

    async def test_after_a_demotion_stores_nothing(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        claim = await claimed(sessions, connected.id)
        async with sessions.begin() as session:
            (await connections.lock(session, connected.id)).status = Status.PENDING_REAUTH

        assert await settled(sessions, vault, claim) is None
        assert await versions(sessions) == {1: "active"}

    async def test_with_a_stale_token_stores_nothing(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        late = await claimed(sessions, connected.id)
        await lose_the_lease(sessions, late)

        assert await settled(sessions, vault, late) is None
        assert await versions(sessions) == {1: "active"}

    async def test_after_a_disconnect_stores_nothing_and_resurrects_nobody(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        claim = await claimed(sessions, connected.id)
        await disconnect(sessions, connected.id)

        assert await settled(sessions, vault, claim) is None
        assert await versions(sessions) == {1: "retired"}
        assert (await stored(sessions, Connection, connected.id)).status == "disconnected"

    async def test_after_a_repair_keeps_the_repairs_version(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        claim = await claimed(sessions, connected.id)
        await add_credential(sessions, vault, connected.id, tokens("repaired"), state="candidate")
        async with sessions.begin() as session:
            await credentials.activate(session, connected.id, 2)

        assert await settled(sessions, vault, claim) is None
        assert await versions(sessions) == {1: "retired", 2: "active"}

    async def test_brings_an_errored_connection_back_and_closes_its_task(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        await errored(sessions, await claimed(sessions, connected.id))

        version = await settled(sessions, vault, await claimed(sessions, connected.id))

        assert version == 2
        assert (await stored(sessions, Connection, connected.id)).status == "active"
        [task] = await every(sessions, OperatorTask)
        assert (task.kind, task.status) == ("errored", "closed")
        events = sorted(await every(sessions, OutboxEvent), key=lambda event: event.seq)
        assert [event.name for event in events] == ["connection.errored", "connection.repaired"]

    async def test_closes_what_an_operator_was_asked_at_a_consent_too(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        await errored(sessions, await claimed(sessions, connected.id))
        async with sessions.begin() as session:
            await tasks.open_task(session, connected.id, "registration", title="t", cause="c", way_out="w")

        await settled(sessions, vault, await claimed(sessions, connected.id))

        assert {task.kind: task.status for task in await every(sessions, OperatorTask)} == {
            "errored": "closed",
            "registration": "closed",
        }


class TestALease:
    def test_outlives_the_two_calls_of_a_confirmation(self) -> None:
        assert leases.LEASE > 2 * TIMEOUT


class TestADeadGrant:
    async def test_is_written_down_and_demotes_nothing_by_itself(
        self, sessions: Sessions, connected: Connection
    ) -> None:
        claim = await claimed(sessions, connected.id)

        detection = await found(sessions, claim)

        [event] = await every(sessions, GrantEvent)
        assert (event.id, event.kind, event.credential_version) == (detection, "revoked", 1)
        assert (event.cause, event.evidence) == ("refused twice", {"answer": "400"})
        assert event.handled_at is None
        assert (await stored(sessions, Connection, connected.id)).status == "active"

    async def test_after_a_lost_answer_keeps_the_mark_of_what_was_sent(
        self, sessions: Sessions, connected: Connection
    ) -> None:
        first = await claimed(sessions, connected.id)
        async with sessions.begin() as session:
            await leases.mark_sent(session, connected.id, first.token, 1)
            await leases.release(session, connected.id, first.token, answered=False)

        await found(sessions, await claimed(sessions, connected.id), Detected.REQUESTED)

        [event] = await every(sessions, GrantEvent)
        lease = await stored(sessions, RefreshLease, connected.id)
        assert event.kind == "requested"
        assert lease.sent_version == 1
        assert lease.until < datetime.now(UTC)

    async def test_cannot_be_told_with_a_stale_token(self, sessions: Sessions, connected: Connection) -> None:
        late = await claimed(sessions, connected.id)
        await lose_the_lease(sessions, late)

        assert await found(sessions, late) is None
        assert await every(sessions, GrantEvent) == []

    async def test_of_a_disconnected_connection_is_nobodys_business(
        self, sessions: Sessions, connected: Connection
    ) -> None:
        claim = await claimed(sessions, connected.id)
        await disconnect(sessions, connected.id)

        assert await found(sessions, claim) is None
        assert await every(sessions, GrantEvent) == []


class TestWhatAPersonHasToLookAt:
    @pytest.mark.parametrize("tell", [errored, contested])
    async def test_after_a_lost_answer_keeps_the_mark_of_what_was_sent(
        self, sessions: Sessions, connected: Connection, tell: Callable[[Sessions, Claim], Awaitable[None]]
    ) -> None:
        first = await claimed(sessions, connected.id)
        async with sessions.begin() as session:
            await leases.mark_sent(session, connected.id, first.token, 1)
            await leases.release(session, connected.id, first.token, answered=False)

        await tell(sessions, await claimed(sessions, connected.id))

        lease = await stored(sessions, RefreshLease, connected.id)
        assert (lease.sent_version, lease.until < datetime.now(UTC)) == (1, True)

    @pytest.mark.parametrize("tell", [errored, contested])
    async def test_after_a_plain_answer_leaves_no_mark(
        self, sessions: Sessions, connected: Connection, tell: Callable[[Sessions, Claim], Awaitable[None]]
    ) -> None:
        claim = await claimed(sessions, connected.id)
        async with sessions.begin() as session:
            await leases.mark_sent(session, connected.id, claim.token, 1)

        await tell(sessions, claim)

        assert (await stored(sessions, RefreshLease, connected.id)).sent_version is None

    async def test_is_not_told_with_a_stale_token(self, sessions: Sessions, connected: Connection) -> None:
        late = await claimed(sessions, connected.id)
        await lose_the_lease(sessions, late)

        await contested(sessions, late)

        assert await every(sessions, OperatorTask) == []


class TestOurOwnMistake:
    async def test_is_an_operators_task_with_the_way_out(self, sessions: Sessions, connected: Connection) -> None:
        await errored(sessions, await claimed(sessions, connected.id))

        row = await stored(sessions, Connection, connected.id)
        [task] = await every(sessions, OperatorTask)
        assert (row.status, row.status_reason) == ("errored", "invalid_client")
        assert (task.kind, task.way_out) == ("errored", "correct the secret")
        assert row.grants == EVERYTHING

    @pytest.mark.parametrize("late", ["stale token", "disconnected"])
    async def test_noticed_too_late_changes_nothing(self, sessions: Sessions, connected: Connection, late: str) -> None:
        claim = await claimed(sessions, connected.id)
        if late == "disconnected":
            await disconnect(sessions, connected.id)
        else:
            await lose_the_lease(sessions, claim)
        before = await stored(sessions, Connection, connected.id)

        await errored(sessions, claim)

        assert (await stored(sessions, Connection, connected.id)).status == before.status
        assert await every(sessions, OperatorTask) == []


class TestABlockedConnection:
    """A person has a dead grant tried once more, and the provider takes it."""

    @pytest.fixture
    async def blocked(self, sessions: Sessions, vault: Vault) -> Connection:
        row = await add_connection(
            sessions,
            status=Status.PENDING_REAUTH,
            grants=[],
            missing_grants=[*EVERYTHING, "notes.delete"],
            lifecycle_id=LIFE,
        )
        await add_credential(sessions, vault, row.id)
        await add_invitation(sessions, vault, row, LIFE)
        async with sessions.begin() as session:
            await tasks.open_task(session, row.id, "reauth", title="t", cause="c", way_out="w")
        return row

    async def test_works_again_and_nothing_that_waited_for_its_owner_stays(
        self, sessions: Sessions, vault: Vault, blocked: Connection
    ) -> None:
        found = await settle(sessions, vault, await claimed(sessions, blocked.id), optional=("notes.delete",))

        assert found is not None
        assert found.repaired
        row = await stored(sessions, Connection, blocked.id)
        assert (row.status, row.grants, row.missing_grants, row.lifecycle_id) == ("active", EVERYTHING, [], None)
        assert await versions(sessions) == {1: "retired", 2: "active"}
        [invitation] = await every(sessions, ConsentSession)
        assert (invitation.status, invitation.outcome) == ("replaced", "a refresh works again")
        assert [task.status for task in await every(sessions, OperatorTask)] == ["closed"]
        [move] = await every(sessions, Transition)
        assert (move.to_status, move.workflow_id, move.run_id) == ("active", "refresh:1", "run 1")
        assert move.evidence == {"rule": "success", "version": 2}

    async def test_without_some_grants_still_waits_for_those(
        self, sessions: Sessions, vault: Vault, blocked: Connection
    ) -> None:
        found = await settle(sessions, vault, await claimed(sessions, blocked.id), ["profile"])

        assert found is not None
        assert not found.repaired
        row = await stored(sessions, Connection, blocked.id)
        assert (row.status, row.grants, row.lifecycle_id) == ("needs_reconsent", ["profile"], LIFE)
        assert row.missing_grants == ["notes.delete", "notes.read", "notes.write"]
        [invitation] = await every(sessions, ConsentSession)
        assert invitation.status == "invited"

    async def test_that_only_lacked_grants_works_again_when_they_are_back(
        self, sessions: Sessions, vault: Vault
    ) -> None:
        row = await add_connection(
            sessions, status=Status.NEEDS_RECONSENT, grants=["profile"], missing_grants=["notes.read", "notes.write"]
        )
        await add_credential(sessions, vault, row.id)

        found = await settle(sessions, vault, await claimed(sessions, row.id), EVERYTHING)

        assert found is not None
        assert found.repaired
        assert (await stored(sessions, Connection, row.id)).status == "active"

    async def test_given_up_meanwhile_stays_so(self, sessions: Sessions, vault: Vault, blocked: Connection) -> None:
        claim = await claimed(sessions, blocked.id)
        async with sessions.begin() as session:
            row = await connections.lock(session, blocked.id)
            await ending.give_up(session, row, among=tuple(Status), reason="left", actor="ada", ended="expired")

        assert await settle(sessions, vault, claim) is None
        assert (await stored(sessions, Connection, blocked.id)).status == "disconnected"


class TestWhatMayBeRefreshed:
    async def test_includes_a_connection_that_only_lacks_grants(self, sessions: Sessions, vault: Vault) -> None:
        connection = await add_connection(sessions, status=Status.NEEDS_RECONSENT, grants=["profile"])
        await add_credential(sessions, vault, connection.id)

        version = await settled(sessions, vault, await claimed(sessions, connection.id))

        assert version == 2
        assert (await stored(sessions, Connection, connection.id)).status == "needs_reconsent"
