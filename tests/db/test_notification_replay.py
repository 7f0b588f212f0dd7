"""Replay of dead dispatches, by a dispatcher at work and step by step."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import notification_replay as replays
from integrations.db import replay, replay_plans
from integrations.db.dedicated import dedicated
from integrations.db.ledger_tables import ReplayItem
from integrations.db.vault import Vault
from integrations.domain.ledger import Failure
from integrations.domain.replay import End, Outcome, Planned, PlanStatus, Window
from tests.factories import every
from tests.notification.ground import IDLE, Ground, ground
from tests.notification.sink import Sink, receiving
from tests.outbox.events import add_events, rows
from tests.outbox.plans import made, progress, released

DONE = """SELECT NOT EXISTS (SELECT FROM service_replay_progress AS far
  WHERE delivered + skipped + dead < least(total, (SELECT released FROM service_replay_plans WHERE id = plan_id)))"""
EXCEEDED = """SELECT EXISTS (SELECT FROM service_replay_plans AS plan
  WHERE max_failures < (SELECT sum(dead) FROM service_replay_progress WHERE plan_id = plan.id))"""
CRASH = Failure.of("Crash", "the process ended each time")


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Ground]:
    async with ground(engine, database_url, vault) as made_ground:
        yield made_ground


@pytest_asyncio.fixture
async def sink(told: Ground) -> AsyncIterator[Sink]:
    """Where everything leads; it refuses for good until it is told otherwise."""
    async with receiving(lambda _key, _nth: 410) as made_sink:
        await told.add_address(made_sink.url)
        yield made_sink


@pytest_asyncio.fixture
async def owner(told: Ground) -> AsyncIterator[AsyncConnection]:
    async with dedicated(told.url, "test") as connection:
        yield connection


async def dead(told: Ground, sink: Sink, count: int) -> Planned:
    """So many that were refused, and a plan of them. The sink takes everything from now on."""
    await add_events(told.engine, count, name="told.news", connections=count)
    await told.request()
    await told.work(until=IDLE)
    sink.answers = lambda _key, _nth: 202
    return await made(told.sessions, "notifications")


async def window(connection: AsyncConnection) -> Window:
    (found,) = await replay.windows(connection, "notifications", [0])
    return found


async def change(told: Ground, item_id: UUID, status: str) -> None:
    sql = "UPDATE service_notification_dispatches SET status = :status WHERE id = :id RETURNING 1"
    await rows(told.engine, sql, id=item_id, status=status)


async def leases_are_over(told: Ground) -> None:
    sql = "UPDATE service_notification_dispatches SET lease_until = now() - interval '1 s' WHERE status = 'processing'"
    await rows(told.engine, f"{sql} RETURNING 1")


async def counts(told: Ground, plan: Planned) -> tuple[int, int, int]:
    seen = await progress(told.sessions, plan)
    return seen.delivered, seen.skipped, seen.dead


async def items(told: Ground, plan: Planned) -> list[ReplayItem]:
    found = await every(told.sessions, ReplayItem, plan_id=plan.plan_id)
    return sorted(found, key=lambda item: item.n)


async def notes(told: Ground, plan: Planned) -> list[tuple[str | None, str]]:
    """What is written down of each item, in the plan's order."""
    return [(item.outcome, (item.why or "").split(":")[0]) for item in await items(told, plan)]


async def closed(told: Ground, plan: Planned, status: PlanStatus) -> Outcome:
    async with told.sessions.begin() as session:
        return await replay_plans.end(session, End(plan_id=plan.plan_id, ledger=plan.ledger, status=status))


class TestAReplay:
    async def test_sends_each_once_more_with_the_same_key(self, told: Ground, sink: Sink) -> None:
        plan = await dead(told, sink, 30)
        before = {key for key, _ in sink.arrivals}
        await released(told.sessions, plan)

        await told.work(until=DONE)

        assert await told.statuses() == {"delivered": 30}
        assert await counts(told, plan) == (30, 0, 0)
        assert set(sink.accepted) == before
        assert len(sink.arrivals) == 60
        assert await rows(told.engine, "SELECT DISTINCT attempts, token, plan_id FROM service_notification_dispatches"
                          ) == [(2, None, None)]  # fmt: skip

    async def test_skips_what_is_not_dead_any_more_and_counts_it(self, told: Ground, sink: Sink) -> None:
        plan = await dead(told, sink, 6)
        delivered, pending, retrying, dropped, gone, _ = [item.item_id for item in await items(told, plan)]
        await change(told, delivered, "delivered")
        await change(told, retrying, "retrying")
        await change(told, dropped, "dropped")
        later = "UPDATE service_notification_dispatches SET status = 'pending', due_at = now() + interval '1 day' "
        await rows(told.engine, f"{later} WHERE id = :id RETURNING 1", id=pending)
        await rows(told.engine, "DELETE FROM service_notification_dispatches WHERE id = :id RETURNING 1", id=gone)
        await released(told.sessions, plan)

        await told.work(until=DONE)

        assert await counts(told, plan) == (1, 5, 0)
        assert await notes(told, plan) == [
            (None, ""),
            ("skipped", "in the flow again"),
            ("skipped", "in the flow again"),
            ("skipped", "old news"),
            ("skipped", "its row is gone"),
            (None, ""),
        ]
        assert len(sink.accepted) == 1

    async def test_drops_what_is_no_news_any_more_with_the_reason(self, told: Ground, sink: Sink) -> None:
        plan = await dead(told, sink, 2)
        await rows(told.engine, "UPDATE service_notification_dispatches SET expires_at = now() RETURNING 1")
        await released(told.sessions, plan)

        await told.work(until=DONE)

        assert await told.statuses() == {"dropped": 2}
        assert await counts(told, plan) == (0, 2, 0)
        assert await notes(told, plan) == [("skipped", "Old")] * 2
        assert sink.accepted == []

    async def test_takes_nothing_while_it_is_paused(self, told: Ground, sink: Sink, owner: AsyncConnection) -> None:
        plan = await dead(told, sink, 3)
        await released(told.sessions, plan)
        allowed = await window(owner)
        async with told.sessions.begin() as session:
            await replay.pause(session, plan.plan_id)

        taken = await replays.take(owner, allowed, 10)

        assert (taken.claimed, taken.skipped) == ([], {})
        assert await told.statuses() == {"dead": 3}

    async def test_tells_those_who_can_be_reached_by_now(self, told: Ground) -> None:
        await add_events(told.engine, 4, name="told.news", connections=4)
        await told.request()
        await told.work(until=IDLE)
        plan = await made(told.sessions, "notifications")
        async with receiving() as sink:
            await told.add_address(sink.url)
            await released(told.sessions, plan)

            await told.work(until=DONE)
            await told.work(until=IDLE)

            assert len(sink.accepted) == 4
        assert await told.statuses() == {"dropped": 4, "delivered": 4}
        assert await counts(told, plan) == (0, 4, 0)
        assert await notes(told, plan) == [("skipped", "there is somebody to tell now")] * 4

    async def test_of_what_still_reaches_nobody_is_a_failure(self, told: Ground) -> None:
        await add_events(told.engine, 2, name="told.news", connections=2)
        await told.request()
        await told.work(until=IDLE)
        plan = await made(told.sessions, "notifications")
        await released(told.sessions, plan, failures=2)

        await told.work(until=DONE)

        assert await told.statuses() == {"nobody": 2}
        assert await counts(told, plan) == (0, 0, 2)


class TestAnItemThatFailsAgain:
    async def test_is_dead_again_with_the_attempt(self, told: Ground, sink: Sink) -> None:
        plan = await dead(told, sink, 5)
        wrong = sink.arrivals[2][0]
        sink.answers = lambda key, _nth: 503 if key == wrong else 202
        await released(told.sessions, plan, failures=1)

        await told.work(until=DONE)

        (row,) = await rows(told.engine, "SELECT * FROM service_notification_dispatches WHERE status = 'dead'")
        assert await counts(told, plan) == (4, 0, 1)
        assert (row.attempts, len(row.history), row.plan_id) == (2, 2, None)
        assert row.history[1]["by"] == f"replay:{plan.plan_id}"
        assert row.cause.startswith("HTTP 503")
        assert row.rendered["subject"] == "told.news"
        assert [outcome for outcome, _ in await notes(told, plan)].count("dead") == 1
        assert told.started == []

    async def test_alone_and_first_stops_the_replay(self, told: Ground, sink: Sink) -> None:
        plan = await dead(told, sink, 20)
        sink.answers = lambda _key, _nth: 503
        await released(told.sessions, plan, 1)
        await told.work(until=EXCEEDED)

        async with told.at() as drain:
            open_still = await replay.windows(drain.connection, "notifications", [0])

        assert open_still == []
        assert await counts(told, plan) == (0, 0, 1)
        assert len(sink.arrivals) == 21
        assert (await closed(told, plan, PlanStatus.STOPPED)).untouched == 19

    async def test_makes_up_the_plans_count_with_the_others(self, told: Ground, sink: Sink) -> None:
        plan = await dead(told, sink, 40)
        sink.answers = lambda key, _nth: 503 if int(key[4:], 16) % 4 == 0 else 202
        await change(told, (await items(told, plan))[7].item_id, "delivered")
        await released(told.sessions, plan, failures=40)

        await told.work(until=DONE)

        outcome = await closed(told, plan, PlanStatus.DONE)
        assert outcome.count == outcome.delivered + outcome.skipped + outcome.dead == 40
        assert (outcome.skipped, outcome.untouched) == (1, 0)
        assert await told.statuses() == {"delivered": outcome.delivered + 1, "dead": outcome.dead}


class TestTheFence:
    async def test_moves_no_plan_that_has_ended_and_settles_what_was_sent(
        self, told: Ground, sink: Sink, owner: AsyncConnection
    ) -> None:
        plan = await dead(told, sink, 5)
        await released(told.sessions, plan)
        allowed = await window(owner)
        taken = await replays.take(owner, allowed, 10)
        ended = await closed(told, plan, PlanStatus.CANCELLED)

        moved = await replays.settle(owner, allowed, taken, [(item, "v") for item in taken.claimed], [], [])

        assert (moved, ended.untouched) == (0, 5)
        assert await counts(told, plan) == (0, 0, 0)
        assert await told.statuses() == {"delivered": 5}

    async def test_counts_a_batch_once(self, told: Ground, sink: Sink, owner: AsyncConnection) -> None:
        plan = await dead(told, sink, 5)
        await released(told.sessions, plan)
        allowed = await window(owner)
        taken = await replays.take(owner, allowed, 2)
        sent = [(item, "v") for item in taken.claimed]

        first = await replays.settle(owner, allowed, taken, sent, [], [])
        second = await replays.settle(owner, allowed, taken, sent, [], [])

        assert (first, second) == (2, 0)
        assert await counts(told, plan) == (2, 0, 0)

    async def test_waits_for_what_a_killed_process_had_in_hand(
        self, told: Ground, sink: Sink, owner: AsyncConnection
    ) -> None:
        plan = await dead(told, sink, 5)
        await released(told.sessions, plan)
        await replays.take(owner, await window(owner), 3)

        meanwhile = await replays.take(owner, await window(owner), 10)
        await leases_are_over(told)
        await told.work(until=DONE)

        assert (meanwhile.claimed, meanwhile.numbers) == ([], {})
        assert await counts(told, plan) == (5, 0, 0)
        assert sorted(sink.accepted) == sorted({key for key, _ in sink.arrivals})

    async def test_gives_back_what_it_had_in_hand_as_it_was(
        self, told: Ground, sink: Sink, owner: AsyncConnection
    ) -> None:
        plan = await dead(told, sink, 2)
        await change(told, (await items(told, plan))[1].item_id, "nobody")
        await rows(
            told.engine, "UPDATE service_notification_dispatches SET channel = '' WHERE status = 'nobody' RETURNING 1"
        )
        await released(told.sessions, plan)
        await replays.take(owner, await window(owner), 2)
        before = await told.statuses()
        await closed(told, plan, PlanStatus.CANCELLED)
        await leases_are_over(told)

        await told.work(
            until="SELECT NOT EXISTS (SELECT FROM service_notification_dispatches WHERE plan_id IS NOT NULL)"
        )

        assert before == {"processing": 2}
        assert await told.statuses() == {"dead": 1, "nobody": 1}


class TestWhatWasNotTried:
    async def test_is_skipped_with_the_reason_and_dead_as_before(
        self, told: Ground, sink: Sink, owner: AsyncConnection
    ) -> None:
        plan = await dead(told, sink, 3)
        await released(told.sessions, plan)
        allowed = await window(owner)
        taken = await replays.take(owner, allowed, 3)
        first, *others = taken.claimed

        await replays.settle(owner, allowed, taken, [(first, "v")], [], others)

        assert await counts(told, plan) == (1, 2, 0)
        assert await notes(told, plan) == [(None, ""), ("skipped", "not tried"), ("skipped", "not tried")]
        assert await told.statuses() == {"delivered": 1, "dead": 2}
        assert await rows(told.engine, "SELECT DISTINCT plan_id, token FROM service_notification_dispatches") == [
            (None, None)
        ]


class TestWhatEndsTheProcess:
    async def test_is_dead_again_without_a_try_and_the_others_go_on(
        self, told: Ground, sink: Sink, owner: AsyncConnection
    ) -> None:
        plan = await dead(told, sink, 3)
        await released(told.sessions, plan, failures=1)
        allowed = await window(owner)
        first = await replay.next_one(owner, allowed)
        assert first is not None
        await replays.take(owner, allowed, 1)

        assert await replays.give_up(owner, 0, first, CRASH) == 1
        await told.work(until=DONE)

        (row,) = await rows(told.engine, "SELECT * FROM service_notification_dispatches WHERE status = 'dead'")
        assert (row.id, row.cause, row.plan_id) == (first, CRASH.cause, None)
        assert await counts(told, plan) == (2, 0, 1)
        assert (await notes(told, plan))[0] == ("dead", "Crash")
        assert len(sink.accepted) == 2

    async def test_in_a_plan_that_is_not_run_is_nothing_to_give_up(
        self, told: Ground, sink: Sink, owner: AsyncConnection
    ) -> None:
        plan = await dead(told, sink, 1)
        (item,) = await items(told, plan)

        assert await replays.give_up(owner, 0, item.item_id, CRASH) == 0

        assert await counts(told, plan) == (0, 0, 0)
