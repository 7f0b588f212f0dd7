import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import outbox_replay, outbox_trouble, replay
from integrations.db.ledger_tables import ProjectorLedger, ReplayItem
from integrations.db.outbox_flow import Flow
from integrations.db.projectors import PROJECTORS
from integrations.db.session import Sessions
from integrations.domain.ledger import Failure, ItemStatus
from tests.factories import every, stored
from tests.outbox.events import add_events, pairs, projected, refused, rows, statuses
from tests.outbox.plans import CAUSE, add_dead, die, drive, made, progress, released

POISON = "NEW.name = 'poison'"
OUT_OF_ORDER = "SELECT seq, out_of_order FROM service_activity_entries ORDER BY seq"


async def item(sessions: Sessions, event_id: Any, projector: str = "activity") -> ProjectorLedger:
    return await stored(sessions, ProjectorLedger, (event_id, projector))


class TestABatch:
    async def test_projects_what_is_dead_once_and_settles_it_with_its_history(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        ids = await add_dead(engine, 30, connections=3)
        plan = await made(sessions)
        await released(sessions, plan)

        assert await drive(owner, 7) == 60
        assert await drive(owner, 7) == 0

        assert await statuses(engine) == {"delivered": 30}
        assert await pairs(engine) == {("activity", "delivered"): 30, ("notification", "delivered"): 30}
        for table in ("service_activity_entries", "service_notification_requests"):
            sequence = await projected(engine, table)
            assert sorted(set(sequence)) == sorted(sequence)
            assert len(sequence) == 30
        seen = await progress(sessions, plan)
        assert (seen.delivered, seen.skipped, seen.dead) == (60, 0, 0)
        row = await item(sessions, ids[0])
        assert (row.part, row.order_key, row.lease_until) == (None, None, None)
        assert (row.cause, len(row.history or [])) == (CAUSE.cause, 1)

    async def test_writes_nothing_down_of_an_item_that_goes_well(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 5)
        plan = await made(sessions)
        [[before]] = await rows(engine, "SELECT max(xmin::text::bigint) FROM service_replay_items")
        await released(sessions, plan)

        await drive(owner)

        [[after]] = await rows(engine, "SELECT max(xmin::text::bigint) FROM service_replay_items")
        assert before == after

    async def test_leaves_alone_what_is_delivered_or_in_the_flow_again_and_counts_it(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        delivered, held, retrying, gone, alone = await add_dead(engine, 5, ["activity"], connections=5)
        plan = await made(sessions)
        for event_id, status in ((delivered, "delivered"), (held, "held"), (retrying, "retrying")):
            change = (
                "UPDATE service_projector_ledger SET status = :status WHERE event_id = :id AND projector = 'activity'"
            )
            await rows(engine, f"{change} RETURNING 1", id=event_id, status=status)
        await rows(engine, "DELETE FROM service_lifecycle_outbox WHERE event_id = :id RETURNING 1", id=gone)
        await released(sessions, plan)

        assert await drive(owner) == 5

        seen = await progress(sessions, plan)
        assert (seen.delivered, seen.skipped, seen.dead) == (1, 4, 0)
        noted = {row.item_id: (row.outcome, (row.why or "").split(":")[0]) for row in await every(sessions, ReplayItem)}
        assert noted == {
            delivered: (None, ""),
            held: ("skipped", "in the flow again"),
            retrying: ("skipped", "in the flow again"),
            gone: ("skipped", "its event is gone"),
            alone: (None, ""),
        }
        assert await rows(engine, "SELECT event_id FROM service_activity_entries") == [(alone,)]

    async def test_of_what_was_projected_is_a_no_op(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_events(engine, 4)
        await Flow(PROJECTORS).batch(owner, 0, 10)
        plan = await made(sessions, statuses=(ItemStatus.DELIVERED,))
        await released(sessions, plan)

        await drive(owner)

        assert (await progress(sessions, plan)).skipped == 8
        assert len(await projected(engine)) == 4

    async def test_leaves_an_event_the_worst_state_of_its_projections(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        ids = await add_dead(engine, 4, connections=4)
        other = (
            "UPDATE service_projector_ledger SET status = :status WHERE event_id = :id AND projector = 'notification'"
        )
        for event_id, status in zip(ids, ("dead", "retrying", "held", "delivered"), strict=True):
            await rows(engine, f"{other} RETURNING 1", id=event_id, status=status)
        plan = await made(sessions, projector="activity")
        await released(sessions, plan)

        assert await drive(owner) == 4

        found = await rows(engine, "SELECT status FROM service_lifecycle_outbox ORDER BY id")
        assert [status for [status] in found] == ["dead", "retrying", "held", "delivered"]
        assert (await progress(sessions, plan)).delivered == 4

    async def test_waits_for_a_retry_that_settles_the_same_event(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        """Both look at the event's other projection: seen too early, it would stay `retrying` for ever."""
        [event_id] = await add_dead(engine, 1)
        other = "UPDATE service_projector_ledger SET status = 'retrying' WHERE projector = 'notification' RETURNING 1"
        await rows(engine, other)
        plan = await made(sessions, projector="activity")
        await released(sessions, plan)

        async with sessions.begin() as session:
            lock = "SELECT FROM service_lifecycle_outbox WHERE event_id = :id FOR UPDATE"
            await session.execute(text(lock), {"id": event_id})
            replaying = asyncio.create_task(drive(owner))
            await asyncio.sleep(0.2)
            assert not replaying.done()
            await outbox_trouble.deliver(session, event_id, "notification", PROJECTORS["notification"], 2)

        assert await replaying == 1
        assert await statuses(engine) == {"delivered": 1}

    async def test_marks_what_later_events_of_its_order_key_have_overtaken(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        first, second, third, fourth = await add_events(engine, 4)
        await die(engine, [first, third, fourth], ["activity"])
        await die(engine, [second], [])
        await rows(
            engine,
            "INSERT INTO service_activity_entries (event_id, name, provider_id, scope_type, scope_id, order_key, seq, "
            "source, payload, occurred_at) SELECT event_id, name, provider_id, scope_type, scope_id, order_key, seq, "
            "source, payload, occurred_at FROM service_lifecycle_outbox WHERE event_id = :id RETURNING 1",
            id=second,
        )
        plan = await made(sessions)
        await released(sessions, plan)

        await drive(owner, 2)

        assert await rows(engine, OUT_OF_ORDER) == [(1, True), (2, False), (3, True), (4, False)]
        assert {fourth} == {
            row.event_id for row in await every(sessions, ProjectorLedger, position=4) if row.settled_at
        }

    async def test_skips_what_no_projector_takes_any_more(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 1)
        plan = await made(sessions)
        await released(sessions, plan)
        [window] = await replay.windows(owner, "outbox", range(16))

        await outbox_replay.batch(owner, window, 10, {"activity": PROJECTORS["activity"]})

        seen = await progress(sessions, plan)
        assert (seen.delivered, seen.skipped) == (1, 1)
        [noted] = await every(sessions, ReplayItem, destination="notification")
        assert noted.why == "there is no projector of this name"

    async def test_takes_nothing_of_a_plan_that_is_paused_meanwhile(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 3)
        plan = await made(sessions)
        await released(sessions, plan)
        [window] = await replay.windows(owner, "outbox", range(16))
        async with sessions.begin() as session:
            await replay.pause(session, plan.plan_id)

        assert await outbox_replay.batch(owner, window, 10, PROJECTORS) == 0


class TestAnItemThatFailsAgain:
    async def test_is_dead_again_with_the_attempt_and_no_other_suffers(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 10)
        [poison] = await add_dead(engine, 1, name="poison")
        await add_dead(engine, 10)
        plan = await made(sessions)
        await released(sessions, plan, failures=5)

        async with refused(engine, POISON):
            assert await drive(owner) == 42

        seen = await progress(sessions, plan)
        assert (seen.delivered, seen.skipped, seen.dead, seen.exceeded) == (41, 0, 1, False)
        row = await item(sessions, poison)
        assert (row.status, row.attempts, row.cause) == ("dead", 13, "Raise: it is refused")
        assert [entry["error"] for entry in row.history or []] == [CAUSE.error, "Raise: it is refused"]
        assert (row.history or [])[1]["by"] == f"replay:{plan.plan_id}"
        [noted] = await every(sessions, ReplayItem, outcome="dead")
        assert (noted.item_id, noted.why) == (poison, "Raise: it is refused")
        assert await statuses(engine) == {"dead": 1, "delivered": 20}
        assert await rows(engine, "SELECT 1 FROM service_ledger_holds") == []

    async def test_keeps_the_order_of_those_beside_it(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 5, ["activity"])
        await add_dead(engine, 1, ["activity"], name="poison")
        await add_dead(engine, 5, ["activity"])
        plan = await made(sessions)
        await released(sessions, plan, failures=1)

        async with refused(engine, POISON):
            await drive(owner)

        assert [seq for _, seq in await projected(engine)] == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]

    async def test_stops_the_stage_when_more_fail_than_it_may_have(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        for part in range(4):
            await add_dead(engine, 20, ["activity"], name="poison", part=part, first=part)
        plan = await made(sessions)
        await released(sessions, plan, failures=3)

        async with refused(engine, POISON):
            assert await drive(owner) == 4

        seen = await progress(sessions, plan)
        assert (seen.dead, seen.exceeded) == (4, True)
        assert len([row for row in await every(sessions, ProjectorLedger, status="dead") if row.attempts == 12]) == 76

    async def test_keeps_the_last_twenty_attempts(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        [event_id] = await add_dead(engine, 1, ["activity"], name="poison")
        twenty = "(SELECT jsonb_agg(jsonb_build_object('attempt', n)) FROM generate_series(1, 20) AS n)"
        await rows(
            engine, f"UPDATE service_projector_ledger SET history = {twenty} WHERE projector = 'activity' RETURNING 1"
        )
        plan = await made(sessions)
        await released(sessions, plan)

        async with refused(engine, POISON):
            await drive(owner)

        history = (await item(sessions, event_id)).history or []
        assert (len(history), history[0]["attempt"], history[-1]["attempt"]) == (20, 2, 13)

    async def test_is_not_meant_when_the_database_has_trouble(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 3)
        plan = await made(sessions)
        await released(sessions, plan)

        async with refused(engine, "true", does="RAISE 'deadlock' USING ERRCODE = '40P01'"):
            with pytest.raises(DBAPIError, match="deadlock"):
                await drive(owner)

        assert (await progress(sessions, plan)).done == 0
        assert await drive(owner) == 6


class TestWhatEndsTheProcess:
    async def test_is_dead_again_without_a_try_and_the_others_go_on(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        first, second = await add_dead(engine, 2, ["activity"], connections=2)
        plan = await made(sessions)
        await released(sessions, plan, failures=1)
        flow, failure = Flow(PROJECTORS), Failure.of("Crash", "the process ended each time")
        [window] = await flow.windows(owner, {0})
        assert await flow.next_replayed(owner, window) == first

        await flow.set_aside(owner, first, failure)
        await drive(owner)

        seen = await progress(sessions, plan)
        assert (seen.delivered, seen.dead) == (1, 1)
        assert (await item(sessions, first)).cause == failure.cause
        assert (await item(sessions, second)).status == "delivered"

    async def test_in_a_plan_that_is_not_run_is_nothing_to_give_up(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        [event_id] = await add_dead(engine, 1, ["activity"])
        plan = await made(sessions)

        moved = await Flow(PROJECTORS).set_aside(owner, event_id, Failure.of("Crash", "it ended"))

        assert moved.failed == ()
        assert (await progress(sessions, plan)).dead == 0
        assert (await item(sessions, event_id)).cause == CAUSE.cause
