"""How another platform's outbox loses events, as triggers: W2, W3, W4, W7, W8 and W37 of its list of pitfalls."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.outbox import OutboxActivities
from integrations import temporal
from integrations.db import connections, outbox_trouble
from integrations.db.dedicated import dedicated, take
from integrations.db.outbox import enqueue
from integrations.db.outbox_flow import Flow
from integrations.db.projectors import PROJECTORS
from integrations.db.session import Sessions
from integrations.domain.connection import Status
from integrations.domain.ledger import partition_of
from integrations.domain.outbox import DeliveryRequest, Retrying
from tests.factories import add_connection
from tests.outbox.events import add_events, pairs, projected, refused, rows, statuses
from workflows.options import delivery
from workflows.outbox import OutboxDeliveryWorkflow
from workflows.queues import WORKFLOWS

ENTRIES, REQUESTS = "service_activity_entries", "service_notification_requests"
RETRYING = Retrying()


@pytest_asyncio.fixture
async def owner(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that owns every partition of an empty outbox."""
    del engine
    async with dedicated(database_url, "test") as connection:
        await take(connection, "outbox", range(16))
        yield connection


class TestAProjectorThatFailsOnceAndThenWorks:
    """W2: there the failure is the last that anybody hears of it, and the event counts as delivered. W7: or all of the
    projectors are run again.
    """

    @pytest.mark.parametrize("table", [ENTRIES, REQUESTS])
    async def test_has_the_event_in_the_end_once_as_the_other_one_has(
        self,
        engine: AsyncEngine,
        owner: AsyncConnection,
        sessions: Sessions,
        database_url: str,
        time_skipping: WorkflowEnvironment,
        table: str,
    ) -> None:
        await add_events(engine)
        async with refused(engine, "true", table):
            [pair] = (await Flow(PROJECTORS).batch(owner, 0, 100)).failed
        other = REQUESTS if table == ENTRIES else ENTRIES
        assert [len(await projected(engine, each)) for each in (table, other)] == [0, 1]
        assert await statuses(engine) == {"retrying": 1}

        steps = OutboxActivities(sessions, database_url, RETRYING)
        client = time_skipping.client
        async with Worker(
            client,
            task_queue=WORKFLOWS,
            workflows=[OutboxDeliveryWorkflow],
            activities=[steps.deliver, steps.bury],
        ):
            ended = await (await temporal.start_delivery(client, DeliveryRequest(pair=pair))).result()

        assert (ended.status, ended.attempts) == ("delivered", 2)
        assert [len(await projected(engine, each)) for each in (table, other)] == [1, 1]
        assert await statuses(engine) == {"delivered": 1}
        assert set(await pairs(engine)) == {("activity", "delivered"), ("notification", "delivered")}


class TestAnOwnerThatIsGoneInTheMiddleOfABatch:
    """W3: there its events are `processing` for ever."""

    async def test_leaves_its_events_to_the_next_one(
        self, engine: AsyncEngine, owner: AsyncConnection, database_url: str
    ) -> None:
        await add_events(engine, 5)
        async with refused(engine, "true", does="PERFORM pg_sleep(30)"):
            batch = asyncio.create_task(Flow(PROJECTORS).batch(owner, 0, 100))
            async with asyncio.timeout(10):
                while not await rows(
                    engine, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
                ):
                    await asyncio.sleep(0.02)
            with pytest.raises(DBAPIError):
                await batch
        assert await statuses(engine) == {"pending": 5}
        assert await pairs(engine) == {}

        async with dedicated(database_url, "the next one") as connection:
            async with asyncio.timeout(10):
                while not await take(connection, "outbox", [0]):
                    await asyncio.sleep(0.02)
            moved = await Flow(PROJECTORS).batch(connection, 0, 100)

        assert moved.taken == 5
        assert await statuses(engine) == {"delivered": 5}
        assert len(set(await projected(engine))) == 5


class TestATransition:
    """W4: there nothing tells of it, or something that is not of its transaction does."""

    @pytest.mark.parametrize("commits", [True, False])
    async def test_and_its_event_are_there_both_or_neither(
        self, engine: AsyncEngine, sessions: Sessions, *, commits: bool
    ) -> None:
        row = await add_connection(sessions)
        async with sessions() as session, session.begin() as transaction:
            locked = await connections.lock(session, row.id)
            await connections.transition(
                session,
                locked,
                Status.PENDING_REAUTH,
                among=(Status.ACTIVE,),
                event="connection.pending_reauth",
                reason="revoked",
                actor="ada",
            )
            if not commits:
                await transaction.rollback()

        [found] = await rows(
            engine,
            "SELECT status, (SELECT count(*) FROM service_connection_transitions) AS moves,"
            " (SELECT count(*) FROM service_lifecycle_outbox WHERE name = 'connection.pending_reauth') AS events"
            " FROM service_connections",
        )
        assert tuple(found) == (("pending_reauth", 1, 1) if commits else ("active", 0, 0))


class TestTheAttempts:
    """W8: there they are over after half a minute, and what failed is lost."""

    async def test_are_twelve_over_more_than_thirteen_minutes(self) -> None:
        policy = delivery(RETRYING, tried=1)["retry_policy"]
        assert policy.maximum_interval is not None

        waits = [
            min(policy.initial_interval * policy.backoff_coefficient**n, policy.maximum_interval)
            for n in range(policy.maximum_attempts - 1)
        ]

        assert 1 + policy.maximum_attempts == 12
        assert sum(waits, timedelta()) > timedelta(minutes=13)

    async def test_used_up_leave_the_event_and_what_was_said_each_time(
        self, engine: AsyncEngine, owner: AsyncConnection, sessions: Sessions
    ) -> None:
        async with refused(engine, "true"):
            [event_id] = await add_events(engine)
            await Flow(PROJECTORS).batch(owner, 0, 100)
        async with sessions.begin() as session:
            await outbox_trouble.bury(session, event_id, "activity")

        [dead] = await rows(
            engine,
            "SELECT item.status, item.cause, item.error, jsonb_array_length(item.history) AS told, event.payload"
            " FROM service_projector_ledger AS item JOIN service_lifecycle_outbox AS event USING (event_id)"
            " WHERE item.projector = 'activity'",
        )
        assert tuple(dead) == ("dead", "Raise: it is refused", "Raise: it is refused", 1, {"n": 1})


class TestTheSourceOfAnEvent:
    """W37: there it is lost on the way."""

    async def test_arrives_in_the_projection(
        self, engine: AsyncEngine, owner: AsyncConnection, sessions: Sessions
    ) -> None:
        row = await add_connection(sessions)
        async with sessions.begin() as session:
            await enqueue(session, row.id, uuid4(), "invoice.paid", {}, source="billing")

        await Flow(PROJECTORS).batch(owner, partition_of(str(row.id)), 100)

        assert [each.source for each in await rows(engine, f"SELECT source FROM {ENTRIES}")] == ["billing"]
