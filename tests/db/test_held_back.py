"""What is held back while the platform may not act by itself, and done when it may."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from integrations.db import connections, credentials, ending, leases, reauth, refresh
from integrations.db.automation_tables import WouldHaveDone
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.refresh import Claim, Settled
from integrations.db.refresh_batch import Renewed
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, GrantEvent, OperatorTask, Transition
from integrations.db.vault import Vault
from integrations.db.waiting import remind
from integrations.domain.automation import Conduct, Step
from integrations.domain.connection import Status
from integrations.domain.reauth import Detected, Expire, Opened, Opening, OpenLifecycle, Order
from tests.automated import conduct, let_lapse, look, pause, resume
from tests.factories import EVERYTHING, add_connection, add_credential, add_invitation, every, soon, stored, tokens

LONG_AGO = datetime.now(UTC) - timedelta(hours=2)
LIFE = uuid4()


async def detected(
    sessions: Sessions, row: Connection, kind: Detected = Detected.REVOKED, *, ordered: bool = False, **more: Any
) -> UUID:
    told = {"cause": f"{kind}", "actor": "ada" if ordered else "RefreshWorkflow", "version": 1} | more
    async with sessions.begin() as session:
        return await connections.detect(session, row.id, kind, ordered=ordered, **told)


async def opened(sessions: Sessions, vault: Vault, row: Connection, lifecycle_id: UUID | None = None) -> Opened:
    wanted = OpenLifecycle(connection_id=row.id, lifecycle_id=lifecycle_id or uuid4(), deadline=soon())
    async with sessions.begin() as session:
        return await reauth.open_lifecycle(session, vault, wanted, lambda _: EVERYTHING)


async def claimed(sessions: Sessions, row: Connection) -> Claim:
    async with sessions.begin() as session:
        current = await credentials.active(session, row.id)
        assert current is not None
        claim = await refresh.claim(session, row, current)
    assert claim is not None
    return claim


async def settled(sessions: Sessions, vault: Vault, row: Connection, granted: list[str] | None) -> Settled:
    claim = await claimed(sessions, await stored(sessions, Connection, row.id))
    async with sessions.begin() as session:
        found = await refresh.settle(
            session,
            vault,
            claim,
            tokens("fresh"),
            granted=granted,
            wanted=EVERYTHING,
            optional=["profile"],
            variables={},
            expires_at=None,
        )
    assert found is not None
    return found


async def is_plain(sessions: Sessions, row: Connection, granted: tuple[str, ...]) -> bool:
    """Would a sweep store what this brought together with others?"""
    claim = await claimed(sessions, await stored(sessions, Connection, row.id))
    async with sessions.begin() as session:
        await leases.release(session, row.id, claim.token, answered=True)
    return Renewed(claim=claim, tokens=tokens(), granted=granted, values={}, expires_at=None, refresh_at=None).is_plain


async def errored(sessions: Sessions, row: Connection) -> None:
    claim = await claimed(sessions, row)
    async with sessions.begin() as session:
        await refresh.mark_errored(session, claim, cause="invalid_client", way_out="correct it", evidence={})


async def contested(sessions: Sessions, row: Connection) -> None:
    claim = await claimed(sessions, row)
    async with sessions.begin() as session:
        await refresh.contest(session, claim, cause="it says both", way_out="look")


async def nothing_happened(sessions: Sessions, row: Connection) -> bool:
    now = await stored(sessions, Connection, row.id)
    return (now.status, now.grants, now.lifecycle_id) == (row.status, row.grants, row.lifecycle_id) and not [
        each for kind in (Transition, OutboxEvent, OperatorTask, ConsentSession) for each in await every(sessions, kind)
    ]


@pytest.fixture
async def connected(sessions: Sessions, vault: Vault, connection: Connection) -> Connection:
    await add_credential(sessions, vault, connection.id)
    return connection


class TestWhileItIsPaused:
    async def test_nothing_is_demoted_and_the_detection_waits_unannounced(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        found = await detected(sessions, connected)
        async with sessions.begin() as session:
            (await session.get_one(GrantEvent, found)).announced_at = LONG_AGO
        await pause(sessions)

        answer = await opened(sessions, vault, connected)

        assert answer.opening is Opening.LEFT
        assert "reauth is paused by ada until" in answer.why
        assert await nothing_happened(sessions, connected)
        waits = await stored(sessions, GrantEvent, found)
        assert (waits.handled_at, waits.announced_at) == (None, None)

        await let_lapse(sessions)
        assert (await opened(sessions, vault, connected)).opening is Opening.OPENED
        assert (await stored(sessions, Connection, connected.id)).status == "pending_reauth"

    async def test_what_a_person_orders_is_done_and_only_that(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        found = await detected(sessions, connected)
        ordered = await detected(sessions, connected, Detected.REQUESTED, ordered=True)
        await pause(sessions)
        lifecycle = uuid4()

        answer = await opened(sessions, vault, connected, lifecycle)

        assert (answer.opening, answer.why) == (Opening.OPENED, "requested")
        assert (await stored(sessions, Connection, connected.id)).status == "active"
        assert (await stored(sessions, GrantEvent, ordered)).handled_at is not None
        assert (await stored(sessions, GrantEvent, found)).handled_at is None

        assert (await opened(sessions, vault, connected, lifecycle)).opening is Opening.OPENED
        await resume(sessions)
        await opened(sessions, vault, connected, lifecycle)
        assert (await stored(sessions, Connection, connected.id)).status == "pending_reauth"

    async def test_a_persons_word_that_the_grant_is_dead_demotes(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        await conduct(sessions, Conduct.OBSERVE)
        await detected(sessions, connected, ordered=True)

        await opened(sessions, vault, connected)

        assert (await stored(sessions, Connection, connected.id)).status == "pending_reauth"

    async def test_nobody_is_errored_until_the_next_refresh_after_it(
        self, sessions: Sessions, connected: Connection
    ) -> None:
        await pause(sessions)
        await errored(sessions, connected)
        assert await nothing_happened(sessions, connected)
        assert [each.step for each in (await look(sessions)).undone] == [Step.ERRORED]

        await resume(sessions)
        await errored(sessions, connected)  # its lease was given back
        assert (await stored(sessions, Connection, connected.id)).status == "errored"

    async def test_no_task_is_opened_for_a_provider_that_contradicts_itself(
        self, sessions: Sessions, connected: Connection
    ) -> None:
        await pause(sessions)
        await contested(sessions, connected)
        assert await nothing_happened(sessions, connected)
        assert [each.step for each in (await look(sessions)).undone] == [Step.CONTEST]

        await resume(sessions)
        await contested(sessions, connected)
        assert len(await every(sessions, OperatorTask)) == 1

    async def test_an_errored_connection_is_not_said_to_become_so(self, sessions: Sessions, vault: Vault) -> None:
        row = await add_connection(sessions, status=Status.ERRORED)
        await add_credential(sessions, vault, row.id)
        await pause(sessions)

        await errored(sessions, row)

        assert await every(sessions, WouldHaveDone) == []


class TestARefreshMeanwhile:
    async def test_stores_its_tokens_and_takes_no_grant_away(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        await conduct(sessions, Conduct.OBSERVE)

        found = await settled(sessions, vault, connected, ["notes.read", "profile"])

        assert found.version == 2
        assert await nothing_happened(sessions, connected)
        waits = await stored(sessions, GrantEvent, found.detection_id)
        assert (waits.kind, waits.evidence) == ("downgraded", {"missing": ["notes.write"]})
        assert [each.step for each in (await look(sessions)).undone] == [Step.NARROW]

    @pytest.mark.parametrize("said", [None, ["notes.read", "profile"]], ids=["unsaid", "said"])
    async def test_is_acted_upon_afterwards_whatever_the_next_one_says_of_grants(
        self, sessions: Sessions, vault: Vault, connected: Connection, said: list[str] | None
    ) -> None:
        await pause(sessions)
        await settled(sessions, vault, connected, ["notes.read", "profile"])
        await settled(sessions, vault, connected, said)
        await resume(sessions)

        await opened(sessions, vault, connected)

        row = await stored(sessions, Connection, connected.id)
        assert (row.status, row.missing_grants) == ("needs_reconsent", ["notes.write"])

    async def test_that_brings_them_back_leaves_nothing_to_do(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        await pause(sessions)
        await settled(sessions, vault, connected, ["notes.read", "profile"])
        await settled(sessions, vault, connected, EVERYTHING)
        await resume(sessions)

        assert (await opened(sessions, vault, connected)).opening is Opening.ALREADY_REPAIRED

    async def test_gives_what_was_gained(self, sessions: Sessions, vault: Vault) -> None:
        row = await add_connection(sessions, grants=["notes.read"])
        await add_credential(sessions, vault, row.id, grants=["notes.read"])
        await pause(sessions)

        await settled(sessions, vault, row, ["notes.read", "notes.write"])

        assert (await stored(sessions, Connection, row.id)).grants == ["notes.read", "notes.write"]

    async def test_loses_an_optional_grant_at_the_first_refresh_after_it(
        self, sessions: Sessions, vault: Vault, connected: Connection
    ) -> None:
        await pause(sessions)
        assert (await settled(sessions, vault, connected, ["notes.read", "notes.write"])).detection_id is None
        assert await nothing_happened(sessions, connected)

        await resume(sessions)
        assert not await is_plain(sessions, connected, ("notes.read", "notes.write"))  # a sweep looks at it by itself
        await settled(sessions, vault, connected, ["notes.read", "notes.write"])
        assert (await stored(sessions, Connection, connected.id)).grants == ["notes.read", "notes.write"]
        assert await is_plain(sessions, connected, ("notes.read", "notes.write"))


class TestADeadlineMeanwhile:
    @pytest.fixture
    async def waiting(self, sessions: Sessions, vault: Vault) -> Connection:
        row = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=LIFE, grants=[])
        await add_invitation(sessions, vault, row, LIFE)
        return row

    async def may_expire(self, sessions: Sessions, row: Connection) -> bool:
        async with sessions.begin() as session:
            return await ending.may_expire(
                session, Expire(connection_id=row.id, lifecycle_id=LIFE, why="nobody came within 14 days")
            )

    async def test_is_held_back_and_noted(self, sessions: Sessions, waiting: Connection) -> None:
        assert await self.may_expire(sessions, waiting)

        await pause(sessions)

        assert not await self.may_expire(sessions, waiting)
        assert [each.step for each in (await look(sessions)).undone] == [Step.DISCONNECT]

    @pytest.mark.parametrize("status", ["received", "exchanging", "exchanged"])
    async def test_never_keeps_a_consent_waiting(self, sessions: Sessions, waiting: Connection, status: str) -> None:
        [invitation] = await every(sessions, ConsentSession)
        async with sessions.begin() as session:
            (await session.get_one(ConsentSession, invitation.id)).status = status
        await pause(sessions)

        assert await self.may_expire(sessions, waiting)

    async def test_is_over_for_a_lifecycle_that_has_no_say_any_more(
        self, sessions: Sessions, waiting: Connection
    ) -> None:
        async with sessions.begin() as session:
            (await session.get_one(Connection, waiting.id)).lifecycle_id = uuid4()
        await pause(sessions)

        assert await self.may_expire(sessions, waiting)

    async def test_gives_nobody_up_who_was_given_more_time(self, sessions: Sessions, waiting: Connection) -> None:
        [invitation] = await every(sessions, ConsentSession)
        expired = Expire(connection_id=waiting.id, lifecycle_id=LIFE, why="late", deadline=invitation.expires_at)
        async with sessions.begin() as session:
            (await session.get_one(ConsentSession, invitation.id)).expires_at += timedelta(days=7)

        async with sessions.begin() as session:
            assert await ending.expire(session, expired) == invitation.id

        assert (await stored(sessions, Connection, waiting.id)).status == "pending_reauth"

    async def test_comes_with_the_reminders_before_it(self, sessions: Sessions, waiting: Connection) -> None:
        """They only tell."""
        await pause(sessions)
        order = Order(connection_id=waiting.id, lifecycle_id=LIFE, key="k", by="the clock", reason="still waiting")

        async with sessions.begin() as session:
            assert await remind(session, order)
