from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from integrations.db import consents
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, OutboxEvent
from integrations.db.vault import Vault
from tests.factories import EVERYTHING, add_invitation, every, stored

LIFE = uuid4()
ENDS = ("completed", "refused", "replaced", "expired")


@pytest.fixture
async def invitation(sessions: Sessions, vault: Vault, connection: Connection) -> ConsentSession:
    return await add_invitation(sessions, vault, connection, LIFE)


async def minted(sessions: Sessions, vault: Vault, session_id: UUID, state: str = "the state") -> bool:
    async with sessions.begin() as session:
        return await consents.mint(
            session, vault, session_id, state=state, verifier="the verifier", browser="the browser"
        )


async def answered(sessions: Sessions, vault: Vault, state: str = "the state", code: str | None = "the code") -> bool:
    """As the callback does it."""
    async with sessions.begin() as session:
        row = await consents.by_state(session, state)
        if row is None:
            return False
        return (
            await consents.refuse(session, row, declined=True, why="you declined")
            if code is None
            else await consents.receive(session, vault, row, code, {})
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

        row = await stored(sessions, ConsentSession, invitation.id)
        kept = b"".join(filter(None, (row.state_hash, row.browser_hash, row.sealed_verifier)))
        assert not any(secret in kept for secret in (b"the state", b"the verifier", b"the browser"))
        assert row.status == "invited"

    async def test_may_be_pressed_again_and_the_older_state_is_void(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession
    ) -> None:
        await minted(sessions, vault, invitation.id, "old")
        await minted(sessions, vault, invitation.id, "new")

        assert not await answered(sessions, vault, "old")
        assert await answered(sessions, vault, "new")

    @pytest.mark.parametrize("status", [*ENDS, "received", "exchanging", "exchanged"])
    async def test_does_nothing_when_the_invitation_waits_no_more(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession, status: str
    ) -> None:
        await changed(sessions, invitation.id, status=status)

        assert not await minted(sessions, vault, invitation.id)
        assert (await stored(sessions, ConsentSession, invitation.id)).state_hash is None

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
        assert consents.code_and_verifier(vault, row) == ("the code", "the verifier")

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
        assert (row.status, row.sealed_verifier) == ("invited", None)
        assert row.denied_at is not None
        assert await minted(sessions, vault, invitation.id, "fresh")
        assert await answered(sessions, vault, "fresh")

    @pytest.mark.parametrize("code", ["the code", None])
    async def test_to_a_state_that_gave_way_to_another_in_that_moment_is_refused(
        self, sessions: Sessions, vault: Vault, invitation: ConsentSession, code: str | None
    ) -> None:
        await minted(sessions, vault, invitation.id, "old")

        async with sessions.begin() as session:
            row = await consents.by_state(session, "old")
            assert row is not None
            await minted(sessions, vault, invitation.id, "new")
            taken = (
                await consents.refuse(session, row, declined=True, why="you declined")
                if code is None
                else await consents.receive(session, vault, row, code, {})
            )

        assert not taken
        assert await answered(sessions, vault, "new")

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
