import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import outbox_trouble
from integrations.db.dedicated import dedicated, take
from integrations.db.outbox_flow import Flow
from integrations.db.projectors import PROJECTORS
from integrations.db.session import Sessions
from integrations.domain.ledger import WHOLE_AFTER, Failure
from tests.outbox.events import add_events, pairs, projected, refused, rows, statuses

POISON = "NEW.name = 'poison'"


@pytest_asyncio.fixture
async def owner(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that owns every partition of an empty outbox."""
    del engine
    async with dedicated(database_url, "test") as connection:
        assert len(await take(connection, "outbox", range(16))) == 16
        yield connection


@pytest.fixture
def flow() -> Flow:
    return Flow(PROJECTORS)


async def deliver(sessions: Sessions, event_id: UUID, projector: str = "activity") -> bool:
    async with sessions.begin() as session:
        return await outbox_trouble.deliver(session, event_id, projector, PROJECTORS[projector], 2)


async def bury(sessions: Sessions, event_id: UUID, projector: str = "activity") -> bool:
    async with sessions.begin() as session:
        return await outbox_trouble.bury(session, event_id, projector) is not None


def in_order(sequence: list[tuple[str, int]]) -> bool:
    last: dict[str, int] = {}
    for key, seq in sequence:
        if seq <= last.get(key, 0):
            return False
        last[key] = seq
    return True


class TestABatch:
    async def test_projects_each_event_once_for_each_projector_and_settles_it(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add_events(engine, 50, connections=5)

        moved = [(await flow.batch(owner, 0, 20)).taken for _ in range(4)]

        assert moved == [20, 20, 10, 0]
        assert await statuses(engine) == {"delivered": 50}
        assert await pairs(engine) == {("activity", "delivered"): 50, ("notification", "delivered"): 50}
        for table in ("service_activity_entries", "service_notification_requests"):
            sequence = await projected(engine, table)
            assert len(set(sequence)) == 50
            assert in_order(sequence)

    async def test_begins_where_the_last_one_ended_and_meets_what_came_late_from_the_front(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        late, *_ = await add_events(engine, 4, connections=4)
        hide = "UPDATE service_lifecycle_outbox SET status = :status WHERE event_id = :id RETURNING 1"
        await rows(engine, hide, status="processing", id=late)
        first = await flow.batch(owner, 0, 2)
        await rows(engine, hide, status="pending", id=late)

        second = await flow.batch(owner, 0, 2, first.upto)
        third = await flow.batch(owner, 0, 2)

        assert [(moved.taken, moved.upto) for moved in (first, second, third)] == [(2, 3), (1, 4), (1, 1)]

    async def test_takes_its_own_partition_only(self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow) -> None:
        await add_events(engine, 3, part=1)

        assert (await flow.batch(owner, 0, 20)).taken == 0
        assert (await flow.batch(owner, 1, 20)).taken == 3

    async def test_carries_over_what_the_event_says_its_source_included(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        [event_id] = await add_events(engine)
        await rows(engine, "UPDATE service_lifecycle_outbox SET source = 'billing' RETURNING 1")

        await flow.batch(owner, 0, 20)

        columns = "event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, seq, source, payload"
        [entry] = await rows(engine, f"SELECT {columns} FROM service_activity_entries")
        [event] = await rows(engine, f"SELECT {columns} FROM service_lifecycle_outbox")
        assert entry == event
        assert (entry.event_id, entry.source) == (event_id, "billing")

    async def test_moves_the_watermark_of_each_projector_on(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add_events(engine, 30)
        await flow.batch(owner, 0, 20)
        await flow.batch(owner, 0, 20)

        marks = await rows(engine, "SELECT destination, position, items FROM service_ledger_watermarks ORDER BY 1")
        assert [tuple(mark) for mark in marks] == [("activity", 30, 30), ("notification", 30, 30)]

    async def test_settles_by_the_ledger_what_somebody_made_pending_again(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        await add_events(engine, 2)
        async with refused(engine, POISON):
            [poison] = await add_events(engine, name="poison", first=9)
            await flow.batch(owner, 0, 20)
            await bury(sessions, poison)
        await rows(engine, "UPDATE service_lifecycle_outbox SET status = 'pending' RETURNING 1")

        await flow.batch(owner, 0, 20)

        assert await statuses(engine) == {"delivered": 2, "dead": 1}
        assert len(await projected(engine)) == 2


class TestAPoisonEvent:
    async def test_leaves_the_flow_and_its_batch_goes_on(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add_events(engine, 30, connections=10)
        [poison] = await add_events(engine, name="poison", first=50)
        await add_events(engine, 30, connections=10)

        async with refused(engine, POISON):
            moved = await flow.batch(owner, 0, 100)

        [pair] = moved.failed
        assert (moved.taken, pair.event_id, pair.projector, pair.name) == (61, poison, "activity", "poison")
        assert pair.cause == "Raise: it is refused"
        assert await statuses(engine) == {"delivered": 60, "retrying": 1}
        assert await pairs(engine) == {
            ("activity", "delivered"): 60,
            ("activity", "retrying"): 1,
            ("notification", "delivered"): 61,
        }
        assert in_order(await projected(engine))

    async def test_holds_back_what_comes_after_it_at_that_projector_only(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        async with refused(engine, POISON):
            await add_events(engine, name="poison")
            await add_events(engine, 3)
            await flow.batch(owner, 0, 100)
            await add_events(engine, 3)
            await flow.batch(owner, 0, 100)

        assert await statuses(engine) == {"retrying": 1, "held": 6}
        assert await pairs(engine) == {
            ("activity", "retrying"): 1,
            ("activity", "held"): 6,
            ("notification", "delivered"): 7,
        }

    @pytest.mark.parametrize("end", [deliver, bury])
    async def test_once_it_is_settled_lets_go_on_what_it_held_back_in_order(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions, end: object
    ) -> None:
        async with refused(engine, POISON):
            [poison] = await add_events(engine, name="poison")
            await add_events(engine, 5)
            await flow.batch(owner, 0, 100)
        assert (await flow.released(owner, 0, 2)).taken == 0

        assert await end(sessions, poison)  # type: ignore[operator]
        await add_events(engine, 1)
        await flow.batch(owner, 0, 100)
        while (await flow.released(owner, 0, 2)).taken:
            pass

        sequence = await projected(engine)
        assert [seq for _, seq in sequence] == ([1] if end is deliver else []) + [2, 3, 4, 5, 6, 7]
        assert await rows(engine, "SELECT * FROM service_ledger_holds") == []
        assert set(await statuses(engine)) == ({"delivered"} if end is deliver else {"delivered", "dead"})

    async def test_among_what_was_held_holds_back_the_rest_again(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        async with refused(engine, POISON):
            [first] = await add_events(engine, name="poison")
            await add_events(engine, 2)
            [second] = await add_events(engine, name="poison")
            await add_events(engine, 2)
            await flow.batch(owner, 0, 100)
            await bury(sessions, first)

            moved = await flow.released(owner, 0, 100)

        assert [pair.event_id for pair in moved.failed] == [second]
        assert [seq for _, seq in await projected(engine)] == [2, 3]
        assert await statuses(engine) == {"dead": 1, "delivered": 2, "retrying": 1, "held": 2}

    async def test_is_settled_once(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        async with refused(engine, POISON):
            [poison] = await add_events(engine, name="poison")
            await flow.batch(owner, 0, 100)

        answers = [await deliver(sessions, poison), await deliver(sessions, poison), await bury(sessions, poison)]

        assert answers == [True, False, False]
        assert len(await projected(engine)) == 1

    async def test_is_given_up_with_the_attempts_that_ended_their_process_too(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        """Nobody wrote those down; the workflow counted them."""
        async with refused(engine, POISON):
            [poison] = await add_events(engine, name="poison")
            await flow.batch(owner, 0, 100)

        async with sessions.begin() as session:
            buried = await outbox_trouble.bury(session, poison, "activity", 12)

        assert buried
        assert buried.attempts == 12
        assert await rows(engine, "SELECT attempts FROM service_projector_ledger WHERE status = 'dead'") == [(12,)]

    async def test_keeps_its_cause_and_each_attempt(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        async with refused(engine, POISON):
            [poison] = await add_events(engine, name="poison")
            await flow.batch(owner, 0, 100)
        for attempt in range(2, 30):
            async with sessions.begin() as session:
                failure = Failure.of("Check", f"value {attempt} of {poison} is refused")
                await outbox_trouble.attempt_failed(session, poison, "activity", failure, attempt)

        [item] = await rows(engine, "SELECT * FROM service_projector_ledger WHERE status = 'retrying'")
        assert (item.attempts, item.cause) == (29, "Check: value … of … is refused")
        assert len(item.history) == 20
        assert item.history[-1]["error"] == f"Check: value 29 of {poison} is refused"


class TestTwoProjectionsOfOneEvent:
    async def test_settled_at_once_leave_the_event_as_both_have_made_it(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        """Neither sees the other's projection before it waits for the event's row."""
        [event_id] = await add_events(engine)
        for name in PROJECTORS:
            async with sessions.begin() as session:
                await outbox_trouble.leave_flow(session, event_id, name, Failure.of("Check", "it is refused"))
        async with sessions.begin() as session:
            await outbox_trouble.settle_events(session, [event_id])
        assert await statuses(engine) == {"retrying": 1}

        async with sessions() as first:
            await first.begin()
            await outbox_trouble.deliver(first, event_id, "activity", PROJECTORS["activity"], 2)
            second = asyncio.create_task(deliver(sessions, event_id, "notification"))
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            async with asyncio.timeout(5):
                while not (await rows(engine, waits))[0][0]:
                    await asyncio.sleep(0.01)
            await first.commit()
        await second

        assert await statuses(engine) == {"delivered": 1}


class TestAProjectorThatIsBroken:
    async def test_is_tried_by_one_event_while_the_others_wait_without_a_workflow_each(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add_events(engine, 200, connections=200)
        async with refused(engine, "true"):
            moved = await flow.batch(owner, 0, 200)

        assert len(moved.failed) == WHOLE_AFTER
        assert await pairs(engine) == {
            ("activity", "retrying"): WHOLE_AFTER,
            ("activity", "held"): 200 - WHOLE_AFTER,
            ("notification", "delivered"): 200,
        }

    async def test_is_not_one_that_works_in_between(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        few = WHOLE_AFTER - 1
        await add_events(engine, few, name="poison", connections=few)
        await add_events(engine, 1, first=100)
        await add_events(engine, few, name="poison", connections=few, first=200)
        async with refused(engine, POISON):
            moved = await flow.batch(owner, 0, 200)

        assert len(moved.failed) == 2 * few
        assert await rows(engine, "SELECT * FROM service_ledger_holds WHERE order_key = '*'") == []

    async def test_is_not_taken_for_one_that_works_by_batches_that_only_wait_for_it(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        await add_events(engine, 50, connections=50)
        async with refused(engine, "true"):
            moved = await flow.batch(owner, 0, 200)
            await add_events(engine, 50, connections=50)
            await flow.batch(owner, 0, 200)
            await bury(sessions, moved.failed[-1].event_id)

            again = await flow.released(owner, 0, 200)

        assert len(again.failed) == 1

    async def test_holds_back_every_partition(self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow) -> None:
        await add_events(engine, 40, connections=40)
        await add_events(engine, 5, connections=5, part=7, first=100)
        async with refused(engine, "true"):
            await flow.batch(owner, 0, 200)
            moved = await flow.batch(owner, 7, 200)

        assert moved.failed == ()
        assert (await pairs(engine))["activity", "held"] == 20 + 5

    async def test_goes_on_once_the_one_that_tries_is_delivered(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        await add_events(engine, 100, connections=50)
        async with refused(engine, "true"):
            moved = await flow.batch(owner, 0, 200)
        for pair in moved.failed:
            assert await deliver(sessions, pair.event_id)

        while (await flow.released(owner, 0, 7)).taken:
            pass

        sequence = await projected(engine)
        assert len(set(sequence)) == 100
        assert in_order(sequence)
        assert await statuses(engine) == {"delivered": 100}
        assert await rows(engine, "SELECT * FROM service_ledger_holds WHERE part = 0") == []

    async def test_found_broken_still_is_tried_by_one_event_again(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, sessions: Sessions
    ) -> None:
        await add_events(engine, 100, connections=100)
        async with refused(engine, "true"):
            moved = await flow.batch(owner, 0, 200)
            await bury(sessions, moved.failed[-1].event_id)

            again = await flow.released(owner, 0, 200)

        assert len(again.failed) == 1
        assert (await pairs(engine))["activity", "held"] == 100 - WHOLE_AFTER - 1
