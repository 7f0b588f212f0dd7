import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from integrations.db import connections
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.outbox import enqueue
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Transition
from integrations.domain.connection import Status
from integrations.domain.errors import StopError
from integrations.domain.ledger import partition_of
from tests.factories import add_connection, every, stored


async def demote(session: AsyncSession, row: Connection, **changes: object) -> bool:
    options = {"among": (Status.ACTIVE,), "event": "connection.pending_reauth", "reason": "revoked", "actor": "ada"}
    return await connections.transition(session, row, Status.PENDING_REAUTH, **(options | changes))  # type: ignore[arg-type]


async def waits_for_a_lock(engine: AsyncEngine, task: "asyncio.Task[bool]") -> None:
    """Until somebody waits for a lock in the database, or the task is over and never did."""
    while not task.done():
        async with engine.connect() as connection:
            if await connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return


class TestAConnection:
    async def test_that_is_not_there_is_named_with_the_way_out(self, sessions: Sessions) -> None:
        missing = uuid4()

        async with sessions.begin() as session:
            for look in (connections.find, connections.lock):
                with pytest.raises(StopError, match=f"no connection {missing}.*runbook connections list"):
                    await look(session, missing)


class TestProvidersInUse:
    async def test_need_somebody_unless_all_there_is_disconnected(self, sessions: Sessions) -> None:
        await add_connection(sessions, provider_id="notion", status=Status.DISCONNECTED)
        await add_connection(sessions, provider_id="slack", status=Status.DISCONNECTED)
        await add_connection(sessions, provider_id="slack", status=Status.PENDING_REAUTH)

        async with sessions.begin() as session:
            assert await connections.providers_in_use(session) == {"notion": False, "slack": True}


class TestATransition:
    async def test_writes_status_history_and_event_in_one_transaction(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        async with sessions.begin() as session:
            row = await connections.lock(session, connection.id)
            moved = await demote(session, row, evidence={"answer": "400"}, payload={"grants_gone": ["a"]})

        assert moved
        [history] = await every(sessions, Transition)
        [event] = await every(sessions, OutboxEvent)
        changed = await stored(sessions, Connection, connection.id)
        assert (changed.status, changed.status_reason) == ("pending_reauth", "revoked")
        assert changed.status_since > connection.created_at
        assert (history.from_status, history.to_status) == ("active", "pending_reauth")
        assert (history.reason, history.actor, history.evidence) == ("revoked", "ada", {"answer": "400"})
        assert history.event_id == event.event_id
        assert event.name == "connection.pending_reauth"
        assert event.payload == {
            "from": "active",
            "to": "pending_reauth",
            "reason": "revoked",
            "actor": "ada",
            "grants_gone": ["a"],
        }
        async with sessions.begin() as session:
            tables = ("service_connections", "service_connection_transitions", "service_lifecycle_outbox")
            writers = {await session.scalar(text(f"SELECT xmin::text FROM {table}")) for table in tables}
        assert len(writers) == 1

    async def test_is_undone_as_a_whole_when_the_transaction_is(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        async with sessions() as session, session.begin() as transaction:
            await demote(session, await connections.lock(session, connection.id))
            await transaction.rollback()

        kept = await stored(sessions, Connection, connection.id)
        assert (kept.status, kept.seq) == ("active", 0)
        assert await every(sessions, Transition) == []
        assert await every(sessions, OutboxEvent) == []

    @pytest.mark.parametrize(
        ("status", "among"),
        [
            (Status.ERRORED, (Status.ACTIVE,)),  # not what the caller expects
            (Status.DISCONNECTED, tuple(Status)),  # leads nowhere near
            (Status.PENDING_REAUTH, tuple(Status)),  # is there already
        ],
    )
    async def test_from_another_status_changes_nothing(
        self, sessions: Sessions, status: Status, among: tuple[Status, ...]
    ) -> None:
        connection = await add_connection(sessions, status=status)

        async with sessions.begin() as session:
            moved = await demote(session, await connections.lock(session, connection.id), among=among)

        assert not moved
        kept = await stored(sessions, Connection, connection.id)
        assert (kept.status, kept.status_reason, kept.seq) == (status, "connected", 0)
        assert await every(sessions, Transition) == []
        assert await every(sessions, OutboxEvent) == []

    async def test_that_waited_for_a_faster_one_sees_its_status(
        self, sessions: Sessions, engine: AsyncEngine, connection: Connection
    ) -> None:
        async def demoted_later() -> bool:
            async with sessions.begin() as session:
                # Known to the session before the lock: what was read then must not be believed.
                known = await connections.find(session, connection.id)
                row = await connections.lock(session, connection.id)
                assert row is known
                return await demote(session, row)

        async with sessions.begin() as session:
            row = await connections.lock(session, connection.id)
            later = asyncio.create_task(demoted_later())
            await waits_for_a_lock(engine, later)
            await demote(session, row, reason="first")

        assert not await later
        assert [history.reason for history in await every(sessions, Transition)] == ["first"]


class TestAnEvent:
    async def test_is_enqueued_once_by_its_id(self, sessions: Sessions, connection: Connection) -> None:
        event_id = uuid4()

        async with sessions.begin() as session:
            first = await enqueue(session, connection.id, event_id, "told", {"n": 1})
        async with sessions.begin() as session:
            second = await enqueue(session, connection.id, event_id, "told", {"n": 2})

        assert (first, second) == (True, False)
        [event] = await every(sessions, OutboxEvent)
        assert event.payload == {"n": 1}

    async def test_that_two_transactions_enqueue_at_once_is_there_once(
        self, sessions: Sessions, engine: AsyncEngine, connection: Connection
    ) -> None:
        event_id = uuid4()

        async def enqueued() -> bool:
            async with sessions.begin() as session:
                return await enqueue(session, connection.id, event_id, "told", {})

        async with sessions.begin() as session:
            first = await enqueue(session, connection.id, event_id, "told", {})
            second = asyncio.create_task(enqueued())
            await waits_for_a_lock(engine, second)

        assert (first, await second) == (True, False)
        assert len(await every(sessions, OutboxEvent)) == 1

    async def test_carries_whose_it_is_and_where_it_goes(self, sessions: Sessions, connection: Connection) -> None:
        async with sessions.begin() as session:
            await enqueue(session, connection.id, uuid4(), "told", {})

        [event] = await every(sessions, OutboxEvent)
        assert (event.provider_id, event.scope_type, event.scope_id) == ("simulator", "org", "acme")
        assert (event.order_key, event.part) == (str(connection.id), partition_of(str(connection.id)))
        assert (event.status, event.seq) == ("pending", 1)

    async def test_gets_its_number_in_the_order_of_commits(
        self, sessions: Sessions, engine: AsyncEngine, connection: Connection
    ) -> None:
        async def second() -> bool:
            async with sessions.begin() as session:
                return await enqueue(session, connection.id, uuid4(), "second", {})

        async with sessions.begin() as session:
            await enqueue(session, connection.id, uuid4(), "first", {})
            waiting = asyncio.create_task(second())
            await waits_for_a_lock(engine, waiting)
            assert not waiting.done()
        await waiting

        events = await every(sessions, OutboxEvent)
        assert {event.name: event.seq for event in events} == {"first": 1, "second": 2}

    async def test_is_numbered_per_connection(self, sessions: Sessions, connection: Connection) -> None:
        other = await add_connection(sessions)

        async with sessions.begin() as session:
            for connection_id in (connection.id, other.id, connection.id):
                await enqueue(session, connection_id, uuid4(), "told", {})

        events = await every(sessions, OutboxEvent)
        assert sorted(e.seq for e in events if e.connection_id == connection.id) == [1, 2]
        assert [e.seq for e in events if e.connection_id == other.id] == [1]
