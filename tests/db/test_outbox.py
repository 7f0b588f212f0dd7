from uuid import UUID, uuid4

from integrations.db.ledger_tables import OutboxEvent
from integrations.db.outbox import enqueue
from integrations.db.session import Sessions
from integrations.db.tables import Connection
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
