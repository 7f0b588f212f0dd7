import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import replay, replay_plans
from integrations.db.ledger_tables import ReplayItem, ReplayPlan, ReplayProgress
from integrations.db.session import Sessions
from integrations.domain.errors import StopError, WrongUsageError
from integrations.domain.ledger import Failure, ItemStatus
from integrations.domain.replay import End, Outcome, Pace, Planned, PlanStatus, ReplayRequest
from tests.factories import every
from tests.outbox.events import add_events, rows
from tests.outbox.plans import CAUSE, add_dead, begun, die, drive, earlier, made, progress, released, row_of

FULL = Failure.of("Raise", "another cause")


async def ended(sessions: Sessions, plan: Planned, status: PlanStatus = PlanStatus.DONE) -> Outcome:
    async with sessions.begin() as session:
        return await replay_plans.end(session, End(plan_id=plan.plan_id, ledger="outbox", status=status))


async def open_upto(owner: AsyncConnection) -> int:
    """How far the first window is open; 0 when none is."""
    found = await replay.windows(owner, "outbox", range(16))
    return found[0].upto if found else 0


class Pacing:
    """What a pace allows from now on, however slow the machine is that looks."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._began = time.monotonic()

    def most(self, more: float = 0) -> float:
        """So far, and in so many seconds more."""
        return self._rate * (time.monotonic() - self._began + more) + 1


class TestAPlan:
    async def test_freezes_the_dead_in_the_order_of_the_ledger_and_counts_them(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        first = await add_dead(engine, 3, part=5, age=timedelta(hours=3))
        second = await add_dead(engine, 2, ["activity"], FULL, part=1, first=9)
        await add_events(engine, 4)

        plan = await made(sessions)

        items = sorted(await every(sessions, ReplayItem), key=lambda item: item.n)
        assert [item.n for item in items] == list(range(1, 9))
        assert [(item.item_id, item.destination) for item in items] == [
            *((event_id, projector) for event_id in first for projector in ("activity", "notification")),
            *((event_id, "activity") for event_id in second),
        ]
        assert {(row.part, row.total) for row in await every(sessions, ReplayProgress)} == {(5, 6), (1, 2)}
        assert plan.count == 8
        assert plan.histogram == {
            "cause": {CAUSE.cause: 6, FULL.cause: 2},
            "age": {"under a day": 6, "under an hour": 2},
            "provider": {"simulator": 8},
        }
        row = await row_of(sessions, plan)
        assert (row.status, row.count, row.hash, row.made_by) == ("planned", 8, plan.hash, "ada")
        assert timedelta(minutes=59) < plan.expires_at - datetime.now(UTC) <= timedelta(hours=1)

    async def test_takes_what_each_filter_means(self, engine: AsyncEngine, sessions: Sessions) -> None:
        old = await add_dead(engine, 1, age=timedelta(days=2))
        other = await add_dead(engine, 1, ["activity"], FULL, name="reauth.invited", first=1)
        await add_events(engine, 1, first=2)
        [delivered] = await add_events(engine, 1, first=3)
        await die(engine, [delivered], [])
        [[connection]] = await rows(
            engine, "SELECT connection_id FROM service_lifecycle_outbox WHERE event_id = :id", id=other[0]
        )
        yesterday = datetime.now(UTC) - timedelta(days=1)

        async def matched(**filters: object) -> set[UUID]:
            plan = await made(sessions, **filters)
            return {item.item_id for item in await every(sessions, ReplayItem, plan_id=plan.plan_id)}

        assert await matched(since=yesterday) == set(other)
        assert await matched(until=yesterday) == set(old)
        assert await matched(event_type="reauth.*") == set(other)
        assert await matched(event_type="connection.tested") == set(old)
        assert await matched(connection=connection) == set(other)
        assert await matched(tenant="org:acme", provider="simulator") == {*old, *other}
        assert await matched(cause=FULL.fingerprint) == set(other)
        assert await matched(cause="Raise: the table") == set(old)
        assert await matched(projector="notification") == set(old)
        assert await matched(limit=1) == set(old)
        assert await matched(statuses=(ItemStatus.DELIVERED,)) == {*other, delivered}

    async def test_that_matches_nothing_says_so_with_the_filters_and_is_not_kept(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        await add_dead(engine, 1)

        for filters in ({"tenant": "org:globex"}, {"event_type": "connection%"}, {"event_type": "connection_tested"}):
            with pytest.raises(StopError, match=r"nothing matches --status dead --\w+"):
                await made(sessions, **filters)

        assert await every(sessions, ReplayPlan) == []
        assert await every(sessions, ReplayItem) == []

    async def test_of_what_cannot_be_meant_is_refused_in_words(self, sessions: Sessions) -> None:
        now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        for filters, words in (
            ({"since": now, "until": now - timedelta(hours=1)}, "12:00 UTC is not before --until 2026-11-25 11:00 UTC"),
            ({"statuses": (ItemStatus.PENDING,)}, "pending items drain by themselves.*runbook status"),
            ({"tenant": "acme"}, "'acme' is not a tenant: write user:ID or org:ID"),
            ({"limit": 0}, "--limit 0 asks for nothing"),
        ):
            with pytest.raises(WrongUsageError, match=words):
                await made(sessions, **filters)

    async def test_is_the_same_plan_only_as_long_as_nobody_edits_it(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        for edit in (
            "DELETE FROM service_replay_items WHERE n = 1 RETURNING 1",
            "UPDATE service_replay_items SET destination = 'activity' WHERE n = 2 RETURNING 1",
            "UPDATE service_replay_plans SET count = 3 RETURNING 1",
        ):
            await add_dead(engine, 2)
            plan = await made(sessions, limit=4)
            await rows(engine, edit)

            with pytest.raises(StopError, match=f"was edited.*{plan.hash}.*Plan anew: runbook outbox plan"):
                await begun(sessions, plan)
            await rows(engine, "DELETE FROM service_replay_plans RETURNING 1")

    async def test_is_begun_in_time_once_and_by_its_own_ledger(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await add_dead(engine, 2)
        plan, late, unknown = await made(sessions), await made(sessions, limit=1), uuid4()
        await rows(
            engine, "UPDATE service_replay_plans SET expires_at = now() WHERE id = :id RETURNING 1", id=late.plan_id
        )

        assert (await begun(sessions, plan)).count == 4
        assert (await begun(sessions, plan)).count == 4  # as a step that is repeated does
        with pytest.raises(StopError, match=r"expired at .* Plan anew: runbook outbox plan --status dead --limit 1"):
            await begun(sessions, late)
        with pytest.raises(StopError, match=f"there is no plan {unknown}"):
            await begun(sessions, plan.model_copy(update={"plan_id": unknown}))
        wanted = ReplayRequest(plan_id=plan.plan_id, ledger="webhook", by="ada", reason="-")
        async with sessions.begin() as session:
            with pytest.raises(StopError, match="of the ledger outbox, not of webhook"):
                await replay_plans.begin(session, wanted)
        await ended(sessions, plan, PlanStatus.CANCELLED)
        with pytest.raises(StopError, match=r"was run before, .* cancelled: 0 delivered, 0 skipped.*4 untouched of 4"):
            await begun(sessions, plan)


class TestThePace:
    async def test_opens_so_many_items_a_second_up_to_what_is_released(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 50)
        plan = await made(sessions)
        pace = Pacing(20)
        await released(sessions, plan, 40, rate=20)
        assert await open_upto(owner) <= pace.most()

        await earlier(sessions, plan, 1)

        assert 20 <= await open_upto(owner) <= pace.most(1)
        assert 20 <= await drive(owner) <= pace.most(1)

    async def test_does_not_catch_up_with_what_a_standstill_missed(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 500)
        plan = await made(sessions)
        pace = Pacing(20)
        await released(sessions, plan, rate=20)
        await earlier(sessions, plan, 3600)

        # A second's worth, and what the look itself takes.
        assert 20 <= await drive(owner) <= pace.most(2)

    async def test_begins_anew_where_it_is_after_a_pause_or_with_another_rate(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 500)
        plan = await made(sessions)
        pace = Pacing(100)
        await released(sessions, plan, rate=100)
        await earlier(sessions, plan, 1)
        assert 100 <= await drive(owner) <= pace.most(1)

        async with sessions.begin() as session:
            await replay.pause(session, plan.plan_id)
        await earlier(sessions, plan, 1.5)
        assert await drive(owner) == 0
        pace = Pacing(100)
        async with sessions.begin() as session:
            await replay.resume(session, plan.plan_id)
        assert await drive(owner) <= pace.most()
        await earlier(sessions, plan, 1)
        await drive(owner)
        pace = Pacing(300)
        async with sessions.begin() as session:
            await replay.repace(session, Pace(plan_id=plan.plan_id, rate=300))
        first = await drive(owner)
        await earlier(sessions, plan, 1)

        assert 300 <= first + await drive(owner) <= pace.most(1)

    async def test_has_no_window_before_the_release_and_none_for_other_partitions_or_ledgers(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 5, part=3)
        plan = await made(sessions)
        await begun(sessions, plan)
        assert await open_upto(owner) == 0

        await released(sessions, plan)

        assert await replay.windows(owner, "outbox", [0, 1, 2]) == []
        assert await replay.windows(owner, "webhook", [3]) == []
        assert [window.part for window in await replay.windows(owner, "outbox", range(16))] == [3]


class TestTheEnd:
    async def test_adds_up_to_the_plan_and_tells_who_came_late(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add_dead(engine, 10)
        plan = await made(sessions)
        await released(sessions, plan, 6)
        await drive(owner)
        await add_dead(engine, 2, ["activity"], first=7)

        outcome = await ended(sessions, plan, PlanStatus.STOPPED)

        assert outcome == Outcome(status=PlanStatus.STOPPED, count=20, delivered=6, untouched=14, late=2)
        assert await ended(sessions, plan) == outcome
        row = await row_of(sessions, plan)
        assert (row.status, row.outcome) == ("stopped", outcome.model_dump(mode="json"))
        assert row.ended_at is not None

    async def test_voids_a_batch_that_comes_later(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        """It saw a plan that ran, and waits for the progress that the end has locked."""
        await add_dead(engine, 10)
        plan = await made(sessions)
        await released(sessions, plan)
        await ended(sessions, plan, PlanStatus.CANCELLED)
        await rows(engine, "UPDATE service_replay_plans SET status = 'running' RETURNING 1")

        assert await drive(owner) == 0

        assert (await progress(sessions, plan)).done == 0
        assert await rows(engine, "SELECT 1 FROM service_activity_entries") == []
