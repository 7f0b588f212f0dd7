import asyncio
import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from integrations.db.ledger_tables import OutboxEvent
from integrations.db.outbox import enqueue, enqueue_apart
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.domain.errors import StopError
from integrations.domain.ledger import partition_of
from tests.factories import every, stored


async def told(sessions: Sessions, connection_id: UUID, event_id: UUID) -> bool:
    async with sessions.begin() as session:
        return await enqueue(session, connection_id, event_id, "connection.tested", {"n": 1})


class TestEnqueueing:
    async def test_gives_each_event_its_connections_next_number(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        answers = [await told(sessions, connection.id, uuid4()) for _ in range(3)]

        assert answers == [True, True, True]
        events = sorted(await every(sessions, OutboxEvent), key=lambda event: event.seq)
        assert [event.seq for event in events] == [1, 2, 3]
        assert {(event.provider_id, event.scope_id, event.status) for event in events} == {
            ("simulator", "acme", "pending")
        }

    async def test_of_a_repeated_event_is_reported_and_uses_no_number_up(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        event_id = uuid4()

        answers = [await told(sessions, connection.id, event_id) for _ in range(3)]

        assert answers == [True, False, False]
        assert (await stored(sessions, Connection, connection.id)).seq == 1
        assert len(await every(sessions, OutboxEvent)) == 1

    async def test_tells_which_program_recorded_it(self, sessions: Sessions, connection: Connection) -> None:
        async with sessions.begin() as session:
            await enqueue(session, connection.id, uuid4(), "invoice.sent", {}, source="billing")

        [event] = await every(sessions, OutboxEvent)
        assert event.source == "billing"

    @pytest.mark.parametrize(
        ("event_id", "name", "source", "said"),
        [
            (UUID(int=0), "connection.tested", "runbook", "needs an id of its own"),
            (uuid4(), "", "runbook", "its name is ''"),
            (uuid4(), "   ", "runbook", "its name is '   '"),
            (uuid4(), "x" * 201, "runbook", "1 to 200 characters"),
            (uuid4(), "a\x00b", "runbook", "its name is"),
            (uuid4(), "connection.tested", "", "its source is ''"),
        ],
    )
    async def test_refuses_an_event_without_an_id_a_name_or_a_source(
        self, sessions: Sessions, connection: Connection, event_id: UUID, name: str, source: str, said: str
    ) -> None:
        with pytest.raises(StopError, match=re.escape(said)):
            async with sessions.begin() as session:
                await enqueue(session, connection.id, event_id, name, {}, source=source)

        assert await every(sessions, OutboxEvent) == []

    async def test_refuses_an_event_about_no_connection_there_is(self, sessions: Sessions) -> None:
        with pytest.raises(StopError, match="and there is none"):
            await told(sessions, uuid4(), uuid4())

    async def test_waits_for_whoever_numbers_the_same_connections_events(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        await asyncio.gather(*(told(sessions, connection.id, uuid4()) for _ in range(10)))

        events = sorted(await every(sessions, OutboxEvent), key=lambda event: event.id)
        assert [event.seq for event in events] == list(range(1, 11))


async def told_apart(sessions: Sessions, event_id: UUID | None = None, **changes: Any) -> bool:
    given = {"provider_id": "simulator", "scope_type": "org", "scope_id": "acme"} | changes
    async with sessions.begin() as session:
        return await enqueue_apart(session, event_id or uuid4(), "provider.announced", {}, **given)


class TestEnqueueingWithoutAConnection:
    async def test_numbers_the_events_of_each_order_key(self, sessions: Sessions) -> None:
        for _ in range(3):
            assert await told_apart(sessions)
        assert await told_apart(sessions, order_key="invoice 7")

        events = sorted(await every(sessions, OutboxEvent), key=lambda event: event.id)
        assert [(event.order_key, event.seq) for event in events] == [
            ("simulator:org:acme", 1),
            ("simulator:org:acme", 2),
            ("simulator:org:acme", 3),
            ("invoice 7", 1),
        ]
        assert {event.part for event in events[:3]} == {partition_of("simulator:org:acme")}
        assert {event.connection_id for event in events} == {None}

    async def test_of_a_repeated_event_is_reported_and_uses_no_number_up(self, sessions: Sessions) -> None:
        event_id = uuid4()

        answers = [await told_apart(sessions, event_id) for _ in range(3)] + [await told_apart(sessions)]

        assert answers == [True, False, False, True]
        assert sorted(event.seq for event in await every(sessions, OutboxEvent)) == [1, 2]

    @pytest.mark.parametrize("missing", [{"provider_id": ""}, {"scope_id": " "}, {"scope_type": "team"}])
    async def test_refuses_an_event_without_a_provider_or_an_owner(
        self, sessions: Sessions, missing: dict[str, str]
    ) -> None:
        with pytest.raises(StopError, match=r"\(provider\.announced\)"):
            await told_apart(sessions, **missing)


class TestTheTableItself:
    @pytest.mark.parametrize("column", ["name", "provider_id", "scope_id", "order_key"])
    async def test_refuses_an_event_without(self, sessions: Sessions, connection: Connection, column: str) -> None:
        await told(sessions, connection.id, uuid4())

        with pytest.raises(IntegrityError):
            async with sessions.begin() as session:
                await session.execute(text(f"UPDATE service_lifecycle_outbox SET {column} = ''"))
