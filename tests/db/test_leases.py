from datetime import timedelta
from uuid import UUID

import pytest

from integrations.db import leases
from integrations.db.session import Sessions
from integrations.db.tables import Connection, RefreshLease
from tests.factories import add_connection, stored

LONG = timedelta(seconds=30)
OVER = timedelta(seconds=-1)


async def claimed(sessions: Sessions, connection_id: UUID, lease: timedelta = LONG) -> int | None:
    async with sessions.begin() as session:
        return await leases.claim(session, connection_id, lease)


async def marked(sessions: Sessions, connection_id: UUID, token: int, version: int = 1) -> bool:
    async with sessions.begin() as session:
        return await leases.mark_sent(session, connection_id, token, version)


async def released(sessions: Sessions, connection_id: UUID, token: int, *, answered: bool) -> bool:
    async with sessions.begin() as session:
        return await leases.release(session, connection_id, token, answered=answered)


class TestALease:
    async def test_is_held_by_one(self, sessions: Sessions, connection: Connection) -> None:
        other = await add_connection(sessions)

        tokens = [await claimed(sessions, one) for one in (connection.id, connection.id, other.id)]

        assert tokens == [1, None, 1]

    async def test_goes_to_the_next_with_another_token_when_it_is_over(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        first = await claimed(sessions, connection.id, OVER)

        second = await claimed(sessions, connection.id)

        assert (first, second) == (1, 2)

    @pytest.mark.parametrize("answered", [True, False])
    async def test_goes_to_the_next_when_it_is_given_back(
        self, sessions: Sessions, connection: Connection, answered: bool
    ) -> None:
        token = await claimed(sessions, connection.id)
        assert token is not None

        assert await released(sessions, connection.id, token, answered=answered)

        assert await claimed(sessions, connection.id) == 2

    async def test_cannot_be_given_back_or_marked_with_a_stale_token(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        stale = await claimed(sessions, connection.id, OVER)
        held = await claimed(sessions, connection.id)
        assert stale is not None

        assert not await released(sessions, connection.id, stale, answered=True)
        assert not await marked(sessions, connection.id, stale)

        row = await stored(sessions, RefreshLease, connection.id)
        assert (row.token, row.sent_version) == (held, None)
        assert await claimed(sessions, connection.id) is None


class TestTheMarkOfWhatWasSent:
    async def test_keeps_the_first_time(self, sessions: Sessions, connection: Connection) -> None:
        token = await claimed(sessions, connection.id)
        assert token is not None
        await marked(sessions, connection.id, token)
        first = await stored(sessions, RefreshLease, connection.id)

        await marked(sessions, connection.id, token)

        again = await stored(sessions, RefreshLease, connection.id)
        assert (again.sent_version, again.sent_at) == (1, first.sent_at)
        assert first.sent_at is not None

    async def test_starts_anew_for_another_version(self, sessions: Sessions, connection: Connection) -> None:
        token = await claimed(sessions, connection.id)
        assert token is not None
        await marked(sessions, connection.id, token)
        first = await stored(sessions, RefreshLease, connection.id)

        await marked(sessions, connection.id, token, version=2)

        again = await stored(sessions, RefreshLease, connection.id)
        assert again.sent_version == 2
        assert again.sent_at > first.sent_at

    @pytest.mark.parametrize(("answered", "kept"), [(True, None), (False, 1)])
    async def test_goes_only_with_an_answer(
        self, sessions: Sessions, connection: Connection, answered: bool, kept: int | None
    ) -> None:
        token = await claimed(sessions, connection.id)
        assert token is not None
        await marked(sessions, connection.id, token)

        await released(sessions, connection.id, token, answered=answered)

        row = await stored(sessions, RefreshLease, connection.id)
        assert row.sent_version == kept
        assert (row.sent_at is None) is (kept is None)
