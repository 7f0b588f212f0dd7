"""An event in somebody else's transaction: SQLAlchemy's or asyncpg's, which commits it or does not."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.domain.errors import StopError, WrongUsageError
from starters.client import record, record_apart
from tests.factories import add_connection, every

ABOUT: dict[str, Any] = {"source": "invoices"}


@pytest_asyncio.fixture
async def connection(sessions: Sessions) -> Connection:
    return await add_connection(sessions)


@pytest_asyncio.fixture
async def theirs(database_url: str) -> AsyncIterator[Any]:
    """A connection of asyncpg's that somebody has taught to read and write JSON."""
    opened = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    await opened.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    yield opened
    await opened.close()


class TestByAsyncpg:
    async def test_is_there_with_its_number_when_they_commit(
        self, sessions: Sessions, connection: Connection, theirs: Any
    ) -> None:
        async with theirs.transaction():
            await record(theirs, uuid4(), "invoice.sent", {"n": 1}, connection_id=connection.id, **ABOUT)
            await record(theirs, uuid4(), "invoice.paid", {"n": 2}, connection_id=connection.id, **ABOUT)
        async with sessions.begin() as session:
            await record(session, uuid4(), "invoice.filed", {"n": 3}, connection_id=connection.id, **ABOUT)

        events = sorted(await every(sessions, OutboxEvent), key=lambda event: event.seq)
        assert [(e.seq, e.name, e.payload) for e in events] == [
            (1, "invoice.sent", {"n": 1}),
            (2, "invoice.paid", {"n": 2}),
            (3, "invoice.filed", {"n": 3}),
        ]
        assert {(e.scope_id, e.source, e.status) for e in events} == {("acme", "invoices", "pending")}

    async def test_is_gone_when_they_roll_back(self, sessions: Sessions, connection: Connection, theirs: Any) -> None:
        transaction = theirs.transaction()
        await transaction.start()
        await record(theirs, uuid4(), "invoice.sent", {}, connection_id=connection.id, **ABOUT)
        await transaction.rollback()

        assert await every(sessions, OutboxEvent) == []

    async def test_is_refused_outside_a_transaction(
        self, sessions: Sessions, connection: Connection, theirs: Any
    ) -> None:
        with pytest.raises(StopError, match=r"this connection is in none"):
            await record(theirs, uuid4(), "invoice.sent", {}, connection_id=connection.id, **ABOUT)

        assert await every(sessions, OutboxEvent) == []

    async def test_may_come_from_a_pool_and_be_about_no_connection(self, sessions: Sessions, database_url: str) -> None:
        async with (
            asyncpg.create_pool(database_url.replace("+asyncpg", ""), min_size=1, max_size=1) as pool,
            pool.acquire() as pooled,
            pooled.transaction(),
        ):
            event_id = uuid4()
            told = [
                await record_apart(
                    pooled, event_id, "invoice.sent", {"n": 1}, provider_id="simulator", owner="org:acme", **ABOUT
                )
                for _ in range(2)
            ]

        [event] = await every(sessions, OutboxEvent)
        assert told == [True, False]
        assert (event.connection_id, event.scope_id, event.payload, event.seq) == (None, "acme", {"n": 1}, 1)


class TestWhatIsWrong:
    async def test_with_a_payload_is_named_without_it(self, sessions: Sessions, connection: Connection) -> None:
        async with sessions.begin() as session:
            with pytest.raises(StopError, match=r"\(invoice\.sent\): its payload is no JSON"):
                await record(
                    session, uuid4(), "invoice.sent", {"sum": float("nan")}, connection_id=connection.id, **ABOUT
                )

    async def test_with_an_owner_is_named(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            with pytest.raises(WrongUsageError, match=r"'acme' is not an owner"):
                await record_apart(session, uuid4(), "a.b", {}, provider_id="simulator", owner="acme", **ABOUT)

    async def test_with_a_connection_is_named(self, sessions: Sessions, theirs: Any) -> None:
        unknown = uuid4()
        async with theirs.transaction():
            with pytest.raises(StopError, match=f"about connection {unknown}, and there is none"):
                await record(theirs, uuid4(), "invoice.sent", {}, connection_id=unknown, **ABOUT)
