from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from integrations.db import credentials
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault
from integrations.domain.errors import NotReadyError
from tests.factories import add_connection, add_credential, every, tokens


async def states(sessions: Sessions) -> dict[int, str]:
    return {row.version: row.state for row in await every(sessions, Credential)}


class TestACredential:
    async def test_is_sealed_in_its_row_and_opens_again(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        row = await add_credential(sessions, vault, connection.id)

        opened = credentials.opened(vault, row)

        assert b"access-1" not in row.sealed
        assert opened.access_token.get_secret_value() == "access-1"
        assert opened.refresh_token is not None
        assert opened.refresh_token.get_secret_value() == "refresh-1"

    async def test_may_have_no_refresh_token(self, sessions: Sessions, vault: Vault, connection: Connection) -> None:
        given = tokens().model_copy(update={"refresh_token": None})

        row = await add_credential(sessions, vault, connection.id, given)

        assert credentials.opened(vault, row) == given

    async def test_does_not_open_when_copied_to_another_connection(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        row = await add_credential(sessions, vault, connection.id)

        row.connection_id = uuid4()

        with pytest.raises(NotReadyError):
            credentials.opened(vault, row)

    def test_shows_no_token_when_it_is_printed(self) -> None:
        assert "access-1" not in f"{tokens()!r} {tokens()}"

    async def test_gets_its_connections_next_version(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        other = await add_connection(sessions)

        first = await add_credential(sessions, vault, connection.id, state="retired")
        second = await add_credential(sessions, vault, connection.id, state="candidate")
        elsewhere = await add_credential(sessions, vault, other.id)

        assert (first.version, second.version, elsewhere.version) == (1, 2, 1)

    async def test_cannot_be_the_second_active_one_even_by_a_direct_insert(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)

        with pytest.raises(IntegrityError, match="ux_service_credentials_active"):
            await add_credential(sessions, vault, connection.id)

        assert await states(sessions) == {1: "active"}

    async def test_cannot_be_the_second_one_of_a_consent(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        consent = uuid4()
        await add_credential(sessions, vault, connection.id, state="unchecked", session_id=consent)

        with pytest.raises(IntegrityError, match="ux_service_credentials_session"):
            await add_credential(sessions, vault, connection.id, state="unchecked", session_id=consent)


class TestActivating:
    async def test_retires_the_old_version_in_the_same_transaction(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        await add_credential(sessions, vault, connection.id, state="candidate")

        async with sessions.begin() as session:
            activated = await credentials.activate(session, connection.id, 2)

        assert activated
        retired, active = sorted(await every(sessions, Credential), key=lambda row: row.version)
        assert (retired.state, active.state) == ("retired", "active")
        assert retired.retired_at == active.activated_at is not None

    async def test_is_undone_as_a_whole_when_the_transaction_is(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)
        await add_credential(sessions, vault, connection.id, state="candidate")

        async with sessions() as session, session.begin() as transaction:
            await credentials.activate(session, connection.id, 2)
            await transaction.rollback()

        assert await states(sessions) == {1: "active", 2: "candidate"}

    @pytest.mark.parametrize("state", ["unchecked", "retired"])
    async def test_takes_nothing_but_a_candidate(
        self, sessions: Sessions, vault: Vault, connection: Connection, state: str
    ) -> None:
        await add_credential(sessions, vault, connection.id, state=state)

        async with sessions.begin() as session:
            activated = await credentials.activate(session, connection.id, 1)

        assert not activated
        assert await states(sessions) == {1: state}

    async def test_leaves_the_old_version_active_when_there_is_no_candidate(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)

        async with sessions.begin() as session:
            activated = await credentials.activate(session, connection.id, 2)

        assert not activated
        assert await states(sessions) == {1: "active"}


class TestDiscarding:
    async def test_forgets_what_was_never_activated_and_nothing_else(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        other = await add_connection(sessions)
        for state in ("retired", "active", "unchecked", "candidate"):
            await add_credential(sessions, vault, connection.id, state=state)
        await add_credential(sessions, vault, other.id, state="candidate")

        async with sessions.begin() as session:
            await credentials.discard_candidates(session, connection.id)

        kept = [(row.connection_id, row.state) for row in await every(sessions, Credential)]
        assert sorted(kept, key=str) == sorted(
            [(connection.id, "retired"), (connection.id, "active"), (other.id, "candidate")], key=str
        )
