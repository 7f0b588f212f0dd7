"""A dispatcher at work on real partitions; what it starts is only written down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from activities import dispatch
from activities.dispatch import Dispatch
from integrations.db import outbox_trouble
from integrations.db.dedicated import dedicated, take
from integrations.db.dispatchers import Seat, look
from integrations.db.outbox_flow import Flow
from integrations.db.projectors import PROJECTORS
from integrations.db.session import Sessions
from integrations.domain.ledger import Failure
from integrations.domain.outbox import Batch, Drained, Pair
from tests.outbox.events import add_events, pairs, refused, rows, statuses
from tests.outbox.plans import add_dead, made, released


class Desk:
    """Dispatchers of one database, each with a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.started: list[Pair] = []
        self.leaving = False

    async def _start(self, pair: Pair) -> None:
        self.started.append(pair)

    @asynccontextmanager
    async def at(self, number: int, *, worker: str = "w", full: int = 100) -> AsyncIterator[Dispatch]:
        async with dedicated(self._url, f"test {number}") as connection:
            seat = Seat("outbox", number, worker)
            yield Dispatch(seat, Flow(PROJECTORS), connection, self._start, lambda: self.leaving, full)

    async def work(self, number: int, *, again: bool = False) -> Drained:
        async with self.at(number) as at_work:
            return await at_work.run(again=again)


@pytest.fixture
def desk(engine: AsyncEngine, database_url: str) -> Desk:
    del engine
    return Desk(database_url)


async def until(engine: AsyncEngine, sql: str) -> None:
    async with asyncio.timeout(10):
        while not (await rows(engine, sql))[0][0]:
            await asyncio.sleep(0.02)


async def scale(engine: AsyncEngine, dispatchers: int) -> None:
    sql = "INSERT INTO service_dispatch_scales (ledger, dispatchers, by, reason) VALUES ('outbox', :n, 'ada', '') "
    sql += "ON CONFLICT (ledger) DO UPDATE SET dispatchers = :n RETURNING 1"
    await rows(engine, sql, n=dispatchers)


ALL_DELIVERED = "SELECT NOT EXISTS (SELECT FROM service_lifecycle_outbox WHERE status <> 'delivered')"


class TestADispatcher:
    async def test_drains_its_partitions_and_leaves_when_its_worker_does(self, engine: AsyncEngine, desk: Desk) -> None:
        for part in range(16):
            await add_events(engine, 30, part=part, first=part * 100, connections=3)
        await scale(engine, 2)

        working = [asyncio.create_task(desk.work(number)) for number in range(2)]
        await until(engine, ALL_DELIVERED)
        desk.leaving = True
        ended = await asyncio.gather(*working)

        assert [each.items for each in ended] == [240, 240]
        assert ended[0].why == "the worker is being stopped"
        found = await rows(engine, "SELECT number, running, parts, items, suspect FROM service_dispatchers ORDER BY 1")
        assert [tuple(row) for row in found] == [(0, False, [], 240, None), (1, False, [], 240, None)]

    async def test_ends_when_the_partitions_are_dealt_anew(self, engine: AsyncEngine, desk: Desk) -> None:
        working = asyncio.create_task(desk.work(3))
        await until(engine, "SELECT count(*) = 1 FROM service_dispatchers WHERE parts = '{3,7,11,15}'")

        await scale(engine, 2)
        ended = await asyncio.wait_for(working, 5)

        assert (ended.dispatchers, ended.why) == (2, "the partitions are dealt anew, to 2")

    async def test_that_there_is_not_to_be_ends_at_once(self, engine: AsyncEngine, desk: Desk) -> None:
        await scale(engine, 2)

        ended = await asyncio.wait_for(desk.work(3), 2)

        assert (ended.dispatchers, ended.items) == (2, 0)

    async def test_leaves_alone_what_another_one_owns_and_takes_it_when_that_is_gone(
        self, engine: AsyncEngine, desk: Desk, database_url: str
    ) -> None:
        await scale(engine, 1)
        await add_events(engine, 5, part=2)
        await add_events(engine, 5, part=3, first=10)
        async with dedicated(database_url, "another") as other:
            await take(other, "outbox", [3])
            working = asyncio.create_task(desk.work(0))
            await until(engine, "SELECT count(*) = 5 FROM service_lifecycle_outbox WHERE status = 'delivered'")
            await asyncio.sleep(0.3)
            assert await statuses(engine) == {"delivered": 5, "pending": 5}
        await until(engine, ALL_DELIVERED)
        desk.leaving = True

        assert (await working).items == 10

    async def test_is_idle_while_only_others_have_something_to_do(self, engine: AsyncEngine, desk: Desk) -> None:
        await add_events(engine, 5, part=2)

        async with desk.at(0) as at_work:
            looked = [await look(at_work.connection, "outbox", parts) for parts in ({1, 2, 3}, {0, 4})]

        assert [each.pending for each in looked] == [[2], []]

    async def test_starts_a_workflow_for_what_left_the_flow(self, engine: AsyncEngine, desk: Desk) -> None:
        await scale(engine, 1)
        async with refused(engine, "NEW.name = 'poison'"):
            [poison] = await add_events(engine, name="poison")
            await add_events(engine, 5, first=10)
            working = asyncio.create_task(desk.work(0))
            await until(engine, "SELECT count(*) = 5 FROM service_lifecycle_outbox WHERE status = 'delivered'")
        desk.leaving = True
        await working

        assert [pair.key for pair in desk.started] == [f"outbox:activity:{poison}"]

    async def test_after_trouble_ends_as_soon_as_something_went_well(self, engine: AsyncEngine, desk: Desk) -> None:
        await scale(engine, 1)
        await add_events(engine, 5)

        ended = await asyncio.wait_for(desk.work(0, again=True), 5)

        assert (ended.items, ended.why) == (5, "it works again")

    async def test_that_takes_over_from_a_killed_one_stays(self, engine: AsyncEngine, desk: Desk) -> None:
        await scale(engine, 1)
        async with desk.at(0) as killed:
            await killed.seat.take(killed.connection, 100)
        await add_events(engine, 5)

        working = asyncio.create_task(desk.work(0, again=True))
        await until(engine, ALL_DELIVERED)
        await asyncio.sleep(0.5)
        assert not working.done()
        desk.leaving = True

        assert (await working).why == "the worker is being stopped"

    async def test_that_finds_a_slow_batch_makes_the_next_ones_smaller(
        self, engine: AsyncEngine, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dispatch, "_SLOW", 0.2)
        await scale(engine, 1)
        async with refused(engine, "true", does="PERFORM pg_sleep(0.005)"):
            await add_events(engine, 150)
            async with desk.at(0) as at_work:
                working = asyncio.create_task(at_work.run(again=False))
                await until(engine, ALL_DELIVERED)
                desk.leaving = True
                await working

                assert at_work._batch == 10


async def crash(engine: AsyncEngine) -> None:
    """What the row says of a dispatcher whose process was killed."""
    await rows(engine, "UPDATE service_dispatchers SET running = true RETURNING 1")


class TestAReplay:
    async def test_goes_on_in_the_partitions_of_whoever_owns_them(
        self, engine: AsyncEngine, desk: Desk, sessions: Sessions
    ) -> None:
        await scale(engine, 1)
        await add_dead(engine, 30, part=2, connections=3)
        await add_dead(engine, 30, part=9, connections=3, first=10)
        await released(sessions, await made(sessions))

        working = asyncio.create_task(desk.work(0))
        await until(engine, ALL_DELIVERED)
        desk.leaving = True
        ended = await working

        assert ended.items == 0, "nothing left the backlog"

    async def test_item_on_which_the_database_gives_up_is_dead_again(
        self, engine: AsyncEngine, desk: Desk, sessions: Sessions
    ) -> None:
        await scale(engine, 1)
        await add_dead(engine, 1, ["activity"], name="poison")
        await add_dead(engine, 4, ["activity"], connections=4, first=10)
        plan = await made(sessions)
        await released(sessions, plan, failures=1)

        gives_up = "RAISE 'canceling statement due to statement timeout' USING ERRCODE = '57014'"
        async with refused(engine, "NEW.name = 'poison'", does=gives_up):
            working = asyncio.create_task(desk.work(0))
            await until(engine, "SELECT sum(delivered) = 4 AND sum(dead) = 1 FROM service_replay_progress")
            desk.leaving = True
            await working


class TestAnEventOnWhichTheDatabaseGivesUp:
    async def test_leaves_the_flow_and_the_others_go_on(self, engine: AsyncEngine, desk: Desk) -> None:
        await scale(engine, 1)
        [poison] = await add_events(engine, name="poison")
        await add_events(engine, 20, connections=20, first=10)

        gives_up = "RAISE 'canceling statement due to statement timeout' USING ERRCODE = '57014'"
        async with refused(engine, "NEW.name = 'poison'", does=gives_up):
            working = asyncio.create_task(desk.work(0))
            await until(engine, "SELECT count(*) = 20 FROM service_lifecycle_outbox WHERE status = 'delivered'")
            desk.leaving = True
            await working

        assert {pair.key for pair in desk.started} == {f"outbox:{name}:{poison}" for name in PROJECTORS}


class TestAnEndThatWasNone:
    async def test_makes_the_next_batches_a_tenth_each_time_and_progress_makes_them_grow(
        self, engine: AsyncEngine, desk: Desk
    ) -> None:
        await scale(engine, 1)
        sizes = []
        for turn in range(4):
            async with desk.at(0, worker=str(turn), full=1000) as at_work:
                sizes.append((await at_work.seat.take(at_work.connection, 1000)).batch)
        assert sizes == [1000, 100, 10, 1]

        await add_events(engine, 200)
        async with desk.at(0, full=1000) as at_work:
            working = asyncio.create_task(at_work.run(again=False))
            await until(engine, ALL_DELIVERED)
            desk.leaving = True
            await working
            assert at_work._batch == 10

    async def test_keeps_batches_small_until_each_partition_has_moved_as_much_as_ended_it(
        self, engine: AsyncEngine, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What ended the process may be the last of what it had in hand, in any partition."""
        await scale(engine, 1)
        for part in range(16):
            await add_events(engine, 9, part=part, first=part * 100)
        limits = []
        async with desk.at(0, full=10) as at_work:
            batch = at_work.ledger.batch

            async def noted(connection: AsyncConnection, part: int, limit: int, after: int) -> Batch[Pair]:
                limits.append(limit)
                return await batch(connection, part, limit, after)

            monkeypatch.setattr(at_work.ledger, "batch", noted)
            await at_work.seat.take(at_work.connection, 10)
            working = asyncio.create_task(at_work.run(again=False))
            await until(engine, ALL_DELIVERED)
            desk.leaving = True
            await working

        assert set(limits[: 9 * 16]) == {1}

    async def test_leaves_batches_of_one_their_turn_in_the_process_so_that_nobody_elses_is_suspected(
        self, engine: AsyncEngine, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await scale(engine, 2)
        batch, at_once, most = Flow.batch, 0, 0

        async def slow(self: Flow, *given: Any) -> Batch[Pair]:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.01)
            try:
                return await batch(self, *given)
            finally:
                at_once -= 1

        monkeypatch.setattr(Flow, "batch", slow)
        mosts = []
        for full in (5, 1):
            for part in range(16):
                await add_events(engine, 5, part=part, first=part * 100)
            most, desk.leaving = 0, False
            async with desk.at(0, full=full) as one, desk.at(1, full=full) as other:
                working = [asyncio.create_task(each.run(again=False)) for each in (one, other)]
                await until(engine, ALL_DELIVERED)
                desk.leaving = True
                await asyncio.gather(*working)
            mosts.append(most)

        assert mosts == [2, 1]

    async def test_of_a_batch_of_one_puts_that_one_aside(self, engine: AsyncEngine, desk: Desk) -> None:
        await scale(engine, 1)
        suspect = (await add_events(engine, 3))[0]
        await add_events(engine, 5, first=10)
        async with desk.at(0) as at_work:
            await at_work.seat.take(at_work.connection, 1)
            await at_work.seat.suspect(at_work.connection, suspect)

        working = asyncio.create_task(desk.work(0))
        await until(engine, "SELECT count(*) = 5 FROM service_lifecycle_outbox WHERE status = 'delivered'")
        desk.leaving = True
        await working

        assert {pair.key for pair in desk.started} == {f"outbox:{name}:{suspect}" for name in PROJECTORS}
        assert await statuses(engine) == {"retrying": 1, "held": 2, "delivered": 5}
        assert (await pairs(engine))["notification", "held"] == 2

    async def test_is_no_suspicion_once_the_suspect_was_delivered(self, engine: AsyncEngine, desk: Desk) -> None:
        await scale(engine, 1)
        [event] = await add_events(engine)
        working = asyncio.create_task(desk.work(0))
        await until(engine, ALL_DELIVERED)
        desk.leaving = True
        await working
        await self._suspected(engine, event)

        desk.leaving = False
        again = asyncio.create_task(desk.work(0))
        await until(engine, "SELECT parts <> '{}' FROM service_dispatchers")
        desk.leaving = True
        await again

        assert desk.started == []
        assert await statuses(engine) == {"delivered": 1}

    async def test_of_one_that_had_been_held_puts_it_aside_and_what_is_behind_it_waits_on(
        self, engine: AsyncEngine, desk: Desk, sessions: Sessions
    ) -> None:
        await scale(engine, 1)
        async with refused(engine, "NEW.name = 'poison'"):
            [poison] = await add_events(engine, name="poison")
            [deadly] = await add_events(engine, name="deadly")
            await add_events(engine, 2)
            async with desk.at(0) as at_work:
                await take(at_work.connection, "outbox", range(16))
                await at_work.ledger.batch(at_work.connection, 0, 100)
        async with sessions.begin() as session:
            await outbox_trouble.bury(session, poison, "activity")

        async with refused(engine, "NEW.name = 'deadly'", does="PERFORM pg_terminate_backend(pg_backend_pid())"):
            for worker in ("1", "2"):
                async with desk.at(0, worker=worker, full=1) as at_work:
                    if worker == "1":
                        with pytest.raises(DBAPIError):
                            await at_work.run(again=False)
                        continue
                    working = asyncio.create_task(at_work.run(again=False))
                    await until(engine, "SELECT count(*) = 1 FROM service_projector_ledger WHERE status = 'retrying'")
                    desk.leaving = True
                    await working

        assert [pair.key for pair in desk.started] == [f"outbox:activity:{deadly}"]
        assert await statuses(engine) == {"dead": 1, "retrying": 1, "held": 2}

    async def test_puts_nothing_in_front_of_what_its_order_key_waits_for(
        self, engine: AsyncEngine, desk: Desk, database_url: str
    ) -> None:
        async with refused(engine, "NEW.name = 'poison'"), dedicated(database_url, "test") as connection:
            [poison] = await add_events(engine, name="poison")
            await Flow(PROJECTORS).batch(connection, 0, 100)
            [suspect] = await add_events(engine)
            moved = await Flow(PROJECTORS).set_aside(connection, suspect, Failure.of("Crash", "alone"))

        assert [pair.key for pair in moved.failed] == [f"outbox:notification:{suspect}"]
        assert (await pairs(engine))["activity", "held"] == 1
        [waits_for] = await rows(engine, "SELECT item_id FROM service_ledger_holds WHERE destination = 'activity'")
        assert waits_for.item_id == poison

    async def test_leaves_what_is_held_where_it_is_until_it_is_its_turn(
        self, engine: AsyncEngine, sessions: Sessions, database_url: str
    ) -> None:
        """The process ended between two batches of one: what the first of them held back was still suspected."""
        flow, crash_of_it = Flow(PROJECTORS), Failure.of("Crash", "alone")
        async with refused(engine, "NEW.name = 'poison'"), dedicated(database_url, "test") as connection:
            [poison] = await add_events(engine, name="poison")
            first, second = await add_events(engine, 2)
            await flow.batch(connection, 0, 100)

            behind_poison = await flow.set_aside(connection, second, crash_of_it)
            async with sessions.begin() as session:
                await outbox_trouble.bury(session, poison, "activity")
            behind_the_first = await flow.set_aside(connection, second, crash_of_it)
            its_turn = await flow.set_aside(connection, first, crash_of_it)

        assert (behind_poison.failed, behind_the_first.failed) == ((), ())
        assert [pair.key for pair in its_turn.failed] == [f"outbox:activity:{first}"]
        assert (await pairs(engine))["activity", "held"] == 1

    async def test_ends_when_batches_grow_again(self, engine: AsyncEngine, desk: Desk) -> None:
        await scale(engine, 1)
        [before] = await add_events(engine, part=1)
        async with desk.at(0) as at_work:
            await at_work.seat.take(at_work.connection, 100)
        await self._suspected(engine, before)
        await add_events(engine, 170, first=10, connections=15)

        working = asyncio.create_task(desk.work(0))
        await until(engine, "SELECT count(*) >= 160 FROM service_lifecycle_outbox WHERE status = 'delivered'")
        await until(engine, "SELECT suspect IS NULL FROM service_dispatchers")
        desk.leaving = True
        await working

    @staticmethod
    async def _suspected(engine: AsyncEngine, event: UUID) -> None:
        await crash(engine)
        await rows(engine, "UPDATE service_dispatchers SET batch = 1, suspect = :event RETURNING 1", event=event)
