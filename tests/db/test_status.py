from datetime import UTC, datetime, timedelta
from uuid import UUID

from integrations.db import tasks
from integrations.db.session import Sessions
from integrations.db.status import ReauthStatus, reauth_status
from integrations.domain.connection import Status
from tests.factories import add_connection


async def counted(sessions: Sessions) -> ReauthStatus:
    async with sessions.begin() as session:
        return await reauth_status(session)


async def task_for(sessions: Sessions, connection_id: UUID) -> None:
    async with sessions.begin() as session:
        await tasks.open_task(session, connection_id, "reauth", title="t", cause="c", way_out="w")


class TestTheStatus:
    async def test_is_fine_when_all_is_well(self, sessions: Sessions) -> None:
        await add_connection(sessions)
        await add_connection(sessions, status=Status.DISCONNECTED)

        found = await counted(sessions)

        assert found == ReauthStatus(blocked=0, errored=0, since=None, open_tasks=0, unacknowledged=0, without_task=0)

    async def test_counts_who_waits_for_whom_and_since_when(self, sessions: Sessions) -> None:
        longest = datetime.now(UTC) - timedelta(days=3)
        pending = await add_connection(sessions, status=Status.PENDING_REAUTH)
        await add_connection(sessions, status=Status.NEEDS_RECONSENT)
        errored = await add_connection(sessions, status=Status.ERRORED, status_since=longest)
        await add_connection(sessions, status_since=longest - timedelta(days=30))
        for row in (pending, errored):
            await task_for(sessions, row.id)
        async with sessions.begin() as session:
            [first, _] = await tasks.listed(session, everything=False)
            await tasks.acknowledge(session, first.id, by="ada")

        found = await counted(sessions)

        assert found == ReauthStatus(
            blocked=2, errored=1, since=longest, open_tasks=2, unacknowledged=1, without_task=1
        )

    async def test_notices_a_blocked_connection_whose_task_was_closed(self, sessions: Sessions) -> None:
        pending = await add_connection(sessions, status=Status.PENDING_REAUTH)
        await task_for(sessions, pending.id)
        async with sessions.begin() as session:
            await tasks.close_all(session, pending.id, by="ada", reason="a mistake")

        found = await counted(sessions)

        assert (found.blocked, found.without_task, found.open_tasks) == (1, 1, 0)
