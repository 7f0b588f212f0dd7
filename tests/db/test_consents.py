from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from integrations.db import consents, presses
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, ConsentState
from integrations.db.vault import Vault
from tests.factories import EVERYTHING, add_invitation, every, stored

LIFE = uuid4()
ENDS = ("completed", "refused", "replaced", "expired")


@pytest.fixture
async def invitation(sessions: Sessions, vault: Vault, connection: Connection) -> ConsentSession:
    return await add_invitation(sessions, vault, connection, LIFE)


async def minted(sessions: Sessions, vault: Vault, session_id: UUID, state: str = "the state") -> bool:
    async with sessions.begin() as session:
        return await presses.mint(
            session, vault, session_id, state=state, verifier=f"verifier of {state}", browser="the browser"
        )


async def answered(sessions: Sessions, vault: Vault, state: str = "the state", code: str | None = "the code") -> bool:
    """As the callback does it."""
    async with sessions.begin() as session:
        found = await presses.by_state(session, state)
        if found is None:
            return False
        row, press, _ = found
        return (
            await presses.refuse(session, row, press, declined=True, why="you declined")
            if code is None
            else await presses.receive(session, vault, row, press, code, {})
        )


async def ended(sessions: Sessions, session_id: UUID, status: str = "refused") -> bool:
    async with sessions.begin() as session:
        return await consents.end(session, session_id, status, "it did not work")


async def changed(sessions: Sessions, session_id: UUID, **values: Any) -> None:
    async with sessions.begin() as session:
        row = await session.get_one(ConsentSession, session_id)
        for name, value in values.items():
            setattr(row, name, value)


class TestAnInvitation:
    async def test_is_found_by_its_link_which_no_row_holds(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        token = vault.link_token(invitation.id)

        async with sessions.begin() as session:
            found = await consents.by_link(session, token)
            stranger = await consents.by_link(session, vault.link_token(uuid4()))

        assert found is not None
        assert (found.id, found.status, found.asked_grants) == (invitation.id, "invited", EVERYTHING)
        assert stranger is None
        columns = {name: value for name, value in vars(found).items() if not name.startswith("_")}
        assert token not in str(columns)

    async def test_is_told_by_an_event_that_carries_no_link_and_no_full_name(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        [event] = await every(sessions, OutboxEvent)

        assert (event.event_id, event.name) == (invitation.id, "reauth.invited")
        assert event.payload["session_id"] == str(invitation.id)
        assert event.payload["account"] == "a••@acme.example"
        assert vault.link_token(invitation.id) not in str(event.payload)

    async def test_is_the_only_open_one_of_its_lifecycle(
        self, sessions: Sessions, vault: Vault, connection: Connection, invitation: ConsentSession
    ) -> None:
        with pytest.raises(IntegrityError, match="ux_service_consent_sessions_open"):
            await add_invitation(sessions, vault, connection, LIFE)

        await ended(sessions, invitation.id)
        second = await add_invitation(sessions, vault, connection, LIFE)
        async with sessions.begin() as session:
            current = await consents.open_session(session, LIFE)
            newest = await consents.latest(session, connection.id)
        assert current is not None
        assert newest is not None
        assert current.id == newest.id == second.id


class TestTheButton:
    async def test_keeps_hashes_and_a_sealed_verifier(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        assert await minted(sessions, vault, invitation.id)

        [press] = await every(sessions, ConsentState, session_id=invitation.id)
        assert press.sealed_verifier is not None
        kept = press.state_hash + press.browser_hash + press.sealed_verifier
        assert not any(secret in kept for secret in (b"the state", b"the verifier", b"the browser"))
        assert (await stored(sessions, ConsentSession, invitation.id)).status == "invited"

    @pytest.mark.parametrize("first", ["old", "new"])
    async def test_may_be_pressed_in_two_tabs_and_whichever_answers_first_is_taken(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession, first: str
    ) -> None:
        second = "new" if first == "old" else "old"
        await minted(sessions, vault, invitation.id, "old")
        await minted(sessions, vault, invitation.id, "new")

        assert await answered(sessions, vault, first, f"code of {first}")
        assert not await answered(sessions, vault, second, f"code of {second}")

        row = await stored(sessions, ConsentSession, invitation.id)
        assert consents.code_and_verifier(vault, row) == (f"code of {first}", f"verifier of {first}")

    async def test_declined_in_one_tab_leaves_the_other_ones_answer_good(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        await minted(sessions, vault, invitation.id, "declining")
        await minted(sessions, vault, invitation.id, "consenting")

        assert await answered(sessions, vault, "declining", None)
        assert await answered(sessions, vault, "consenting")

    async def test_forgets_presses_that_are_too_old_to_be_answered(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        await minted(sessions, vault, invitation.id, "forgotten")
        async with sessions.begin() as session:
            await session.execute(update(ConsentState).values(minted_at=datetime.now(UTC) - 2 * presses.LIFE))

        await minted(sessions, vault, invitation.id, "fresh")

        assert len(await every(sessions, ConsentState)) == 1
        assert not await answered(sessions, vault, "forgotten")
        assert await answered(sessions, vault, "fresh")

    @pytest.mark.parametrize("status", [*ENDS, "received", "exchanging", "exchanged"])
    async def test_does_nothing_when_the_invitation_waits_no_more(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession, status: str
    ) -> None:
        await changed(sessions, invitation.id, status=status)

        assert not await minted(sessions, vault, invitation.id)
        assert await every(sessions, ConsentState) == []

    async def test_does_nothing_after_the_deadline(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        await changed(sessions, invitation.id, expires_at=datetime.now(UTC) - timedelta(seconds=1))

        assert not await minted(sessions, vault, invitation.id)


class TestTheAnswer:
    async def test_is_kept_sealed_and_opens_for_the_exchange(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        await minted(sessions, vault, invitation.id)

        assert await answered(sessions, vault)

        row = await stored(sessions, ConsentSession, invitation.id)
        assert row.status == "received"
        assert row.received_at is not None
        assert b"the code" not in (row.sealed_code or b"")
        assert consents.code_and_verifier(vault, row) == ("the code", "verifier of the state")

    async def test_counts_once(self, sessions: Sessions, vault: Vault, invitation: ConsentSession) -> None:
        await minted(sessions, vault, invitation.id)
        await answered(sessions, vault, code="first")

        again = await answered(sessions, vault, code="second")

        assert not again
        row = await stored(sessions, ConsentSession, invitation.id)
        assert consents.code_and_verifier(vault, row)[0] == "first"

    async def test_with_a_state_nobody_minted_is_not_ours(self, sessions: Sessions, vault: Vault) -> None:
        assert not await answered(sessions, vault, "a guess")

    async def test_after_a_decline_is_refused_until_the_button_is_pressed_again(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        await minted(sessions, vault, invitation.id)

        declined = await answered(sessions, vault, code=None)
        replayed = await answered(sessions, vault), await answered(sessions, vault, code=None)

        assert declined
        assert replayed == (False, False)
        row = await stored(sessions, ConsentSession, invitation.id)
        [press] = await every(sessions, ConsentState)
        assert (row.status, press.sealed_verifier) == ("invited", None)
        assert row.denied_at is not None
        assert await minted(sessions, vault, invitation.id, "fresh")
        assert await answered(sessions, vault, "fresh")

    async def test_that_is_a_decline_is_told_each_time_once(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        for state in ("first", "second"):
            await minted(sessions, vault, invitation.id, state)
            await answered(sessions, vault, state, None)
            await answered(sessions, vault, state, None)

        told = await every(sessions, OutboxEvent, name="reauth.declined")
        assert [event.payload["session_id"] for event in told] == [str(invitation.id)] * 2

    @pytest.mark.parametrize("code", ["the code", None])
    async def test_to_a_state_that_was_used_in_that_very_moment_is_refused(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession, code: str | None
    ) -> None:
        await minted(sessions, vault, invitation.id)

        async with sessions.begin() as session:
            found = await presses.by_state(session, "the state")
            assert found is not None
            row, press, _ = found
            await answered(sessions, vault, code=None)
            taken = (
                await presses.refuse(session, row, press, declined=True, why="you declined")
                if code is None
                else await presses.receive(session, vault, row, press, code, {})
            )

        assert not taken
        assert (await stored(sessions, ConsentSession, invitation.id)).status == "invited"

    @pytest.mark.parametrize("status", ENDS)
    async def test_to_an_ended_invitation_is_refused(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession, status: str
    ) -> None:
        await minted(sessions, vault, invitation.id)
        await ended(sessions, invitation.id, status)

        assert not await answered(sessions, vault)
        assert (await stored(sessions, ConsentSession, invitation.id)).sealed_code is None


class TestTheEnd:
    async def test_forgets_what_was_sealed(self, sessions: Sessions, vault: Vault, invitation: ConsentSession) -> None:
        await minted(sessions, vault, invitation.id)
        await answered(sessions, vault)

        assert await ended(sessions, invitation.id)

        row = await stored(sessions, ConsentSession, invitation.id)
        assert (row.status, row.outcome) == ("refused", "it did not work")
        assert (row.sealed_code, row.sealed_verifier) == (None, None)
        assert row.ended_at is not None

    async def test_forgets_what_other_tabs_were_given(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        await minted(sessions, vault, invitation.id)

        await ended(sessions, invitation.id)

        assert [press.sealed_verifier for press in await every(sessions, ConsentState)] == [None]

    async def test_comes_once(self, sessions: Sessions, invitation: ConsentSession) -> None:
        await ended(sessions, invitation.id, "expired")

        assert not await ended(sessions, invitation.id, "completed")
        assert (await stored(sessions, ConsentSession, invitation.id)).status == "expired"

    async def test_of_a_connection_ends_the_open_ones_of_every_lifecycle(
        self, sessions: Sessions, vault: Vault, connection: Connection, invitation: ConsentSession
    ) -> None:
        await ended(sessions, invitation.id, "completed")
        for _ in range(2):
            await add_invitation(sessions, vault, connection, uuid4())

        async with sessions.begin() as session:
            await consents.end_all(session, connection.id, "expired", "given up")

        statuses = sorted(row.status for row in await every(sessions, ConsentSession))
        assert statuses == ["completed", "expired", "expired"]


class TestAMove:
    async def test_happens_once(self, sessions: Sessions, invitation: ConsentSession) -> None:
        async with sessions.begin() as session:
            first = await consents.move(session, invitation.id, "invited", "received")
            second = await consents.move(session, invitation.id, "invited", "received")

        assert (first, second) == (True, False)
