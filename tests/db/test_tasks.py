from uuid import UUID, uuid4

import pytest

from integrations.db import tasks
from integrations.db.session import Sessions
from integrations.db.tables import Connection, OperatorTask
from integrations.domain.connection import Status
from integrations.domain.errors import StopError
from tests.factories import add_connection, every, stored


async def opened(sessions: Sessions, connection_id: UUID, kind: str = "reauth", cause: str = "revoked") -> OperatorTask:
    async with sessions.begin() as session:
        await tasks.open_task(session, connection_id, kind, title="a title", cause=cause, way_out="a command")
    rows = await every(sessions, OperatorTask, connection_id=connection_id, kind=kind)
    return next(row for row in rows if row.status != "closed")


async def acknowledged(sessions: Sessions, task_id: UUID, by: str = "ada") -> bool:
    async with sessions.begin() as session:
        return await tasks.acknowledge(session, task_id, by=by)


async def closed_by_hand(sessions: Sessions, task_id: UUID) -> bool:
    async with sessions.begin() as session:
        return await tasks.close_by_hand(session, task_id, by="bob", reason="done")


class TestATask:
    async def test_is_the_only_open_one_of_its_connection_and_kind(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        first = await opened(sessions, connection.id)
        again = await opened(sessions, connection.id, cause="revoked again")
        other = await opened(sessions, connection.id, kind="errored")

        assert (again.id, again.cause) == (first.id, "revoked again")
        assert other.id != first.id
        assert len(await every(sessions, OperatorTask)) == 2

    async def test_brought_up_to_date_stays_acknowledged(self, sessions: Sessions, connection: Connection) -> None:
        task = await opened(sessions, connection.id)
        await acknowledged(sessions, task.id)

        again = await opened(sessions, connection.id, cause="news")

        assert (again.status, again.acknowledged_by, again.cause) == ("acknowledged", "ada", "news")

    async def test_opens_anew_after_it_was_closed(self, sessions: Sessions, connection: Connection) -> None:
        first = await opened(sessions, connection.id)
        async with sessions.begin() as session:
            await tasks.close_all(session, connection.id, by="ada", reason="repaired")

        second = await opened(sessions, connection.id)

        closed = await stored(sessions, OperatorTask, first.id)
        assert second.id != first.id
        assert (closed.status, closed.closed_by, closed.closed_reason) == ("closed", "ada", "repaired")

    async def test_opens_however_often_one_was_opened_before(self, sessions: Sessions, connection: Connection) -> None:
        # After five uses on a connection PostgreSQL turns to a generic plan, in which a bound `closed` is unknown.
        async with sessions.begin() as session:
            for _ in range(7):
                await tasks.open_task(session, connection.id, "reauth", title="t", cause="c", way_out="w")

        assert len(await every(sessions, OperatorTask)) == 1

    async def test_that_is_not_there_is_named_with_the_way_out(self, sessions: Sessions) -> None:
        missing = uuid4()

        async with sessions.begin() as session:
            with pytest.raises(StopError, match=rf"no task {missing}.*runbook tasks list --all"):
                await tasks.find(session, missing)

    async def test_is_listed_until_it_is_closed(self, sessions: Sessions, connection: Connection) -> None:
        open_one = await opened(sessions, connection.id)
        closed_one = await opened(sessions, connection.id, kind="errored")
        await closed_by_hand(sessions, closed_one.id)

        async with sessions.begin() as session:
            waiting = await tasks.listed(session, everything=False)
            everything = await tasks.listed(session, everything=True)

        assert [row.id for row in waiting] == [open_one.id]
        assert {row.id for row in everything} == {open_one.id, closed_one.id}


class TestAcknowledging:
    async def test_keeps_who_was_first(self, sessions: Sessions, connection: Connection) -> None:
        task = await opened(sessions, connection.id)

        assert await acknowledged(sessions, task.id, by="ada")
        assert await acknowledged(sessions, task.id, by="bob")

        row = await stored(sessions, OperatorTask, task.id)
        assert (row.status, row.acknowledged_by) == ("acknowledged", "ada")

    async def test_says_no_to_a_closed_task(self, sessions: Sessions, connection: Connection) -> None:
        task = await opened(sessions, connection.id)
        await closed_by_hand(sessions, task.id)

        assert not await acknowledged(sessions, task.id)
        assert (await stored(sessions, OperatorTask, task.id)).status == "closed"

    async def test_does_not_reopen_what_was_closed_meanwhile(self, sessions: Sessions, connection: Connection) -> None:
        task = await opened(sessions, connection.id)

        async with sessions() as session, session.begin():
            read_before = await tasks.find(session, task.id)
            await closed_by_hand(sessions, task.id)
            await tasks.acknowledge(session, read_before.id, by="ada")

        assert (await stored(sessions, OperatorTask, task.id)).status == "closed"


class TestClosingByHand:
    @pytest.mark.parametrize("status", [Status.PENDING_REAUTH, Status.NEEDS_RECONSENT])
    async def test_is_refused_while_the_connection_waits_for_its_owner(
        self, sessions: Sessions, status: Status
    ) -> None:
        connection = await add_connection(sessions, status=status)
        task = await opened(sessions, connection.id)

        assert not await closed_by_hand(sessions, task.id)
        assert (await stored(sessions, OperatorTask, task.id)).status == "open"

    @pytest.mark.parametrize("status", [Status.ACTIVE, Status.ERRORED, Status.DISCONNECTED])
    async def test_is_done_otherwise_and_says_by_whom(self, sessions: Sessions, status: Status) -> None:
        connection = await add_connection(sessions, status=status)
        task = await opened(sessions, connection.id)

        assert await closed_by_hand(sessions, task.id)
        assert await closed_by_hand(sessions, task.id)

        row = await stored(sessions, OperatorTask, task.id)
        assert (row.status, row.closed_by, row.closed_reason) == ("closed", "bob", "done")
