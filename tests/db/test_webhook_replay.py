from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import replay, replay_plans, webhook_replay
from integrations.db.dedicated import dedicated
from integrations.db.ledger_tables import ReplayItem
from integrations.db.session import Sessions
from integrations.db.webhook_outcome import Outcome
from integrations.db.webhook_tables import WebhookChannel, WebhookDelivery
from integrations.domain.errors import StopError
from integrations.domain.ledger import Failure, ItemStatus
from integrations.domain.replay import End, PlanStatus
from tests.factories import add_connection, every, stored
from tests.outbox.plans import made, progress, released, row_of
from tests.webhook.given import CAUSE, add, statuses


@pytest_asyncio.fixture
async def owner(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncConnection]:
    del engine
    async with dedicated(database_url, "test") as connection:
        yield connection


class Handling:
    """A handler whose effect is a row, and which the database refuses for some events."""

    def __init__(self) -> None:
        self.marks: list[bool] = []

    async def __call__(self, connection: AsyncConnection, row: Any, /, *, replayed: bool) -> Outcome:
        self.marks.append(replayed)
        if row.event == "ends the session":
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        await connection.execute(
            text("INSERT INTO service_order_keys (order_key, seq) VALUES (:id, :seq)"),
            {"id": str(row.id), "seq": None if row.event == "poison" else 1},
        )
        if row.event == "waits":
            return Outcome("", waits="webhook is paused by ada")
        if row.event == "has no answer":
            raise StopError("there is no such connection")
        return Outcome("event")


async def effects(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM service_order_keys"))).scalar_one())


async def drive(connection: AsyncConnection, handle: webhook_replay.Handle, limit: int = 100) -> int:
    taken = 0
    while True:
        open_now = await replay.windows(connection, "webhooks", range(16))
        moved = [await webhook_replay.batch(connection, window, limit, handle) for window in open_now]
        taken += sum(moved)
        if not sum(moved):
            return taken


async def of(sessions: Sessions, delivery_id: UUID) -> WebhookDelivery:
    return await stored(sessions, WebhookDelivery, delivery_id)


class TestABatch:
    async def test_handles_what_is_dead_once_as_replayed(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        ids = await add(engine, 30, "dead", part="i % 3")
        plan, handling = await made(sessions, "webhooks"), Handling()
        await released(sessions, plan)

        assert await drive(owner, handling, 7) == 30
        assert await drive(owner, handling, 7) == 0

        assert await statuses(engine) == {"delivered": 30}
        assert await effects(engine) == 30
        assert handling.marks == [True] * 30
        row = await of(sessions, ids[0])
        assert (row.handled_as, row.cause, row.settled_at is not None) == ("event", CAUSE.cause, True)
        assert not [line for line in await every(sessions, ReplayItem) if line.outcome]

    async def test_one_that_fails_is_dead_again_with_its_attempt_and_harms_no_other(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        ids = await add(engine, 5, "dead", event="CASE i WHEN 3 THEN 'poison' ELSE 'push' END")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan, failures=1)

        assert await drive(owner, Handling()) == 5

        seen = await progress(sessions, plan)
        assert (seen.delivered, seen.skipped, seen.dead) == (4, 0, 1)
        assert await effects(engine) == 4
        row = await of(sessions, ids[2])
        assert (row.status, row.attempts) == ("dead", 9)
        [entry] = row.history or []
        assert entry["by"] == f"replay:{plan.plan_id}"
        assert "null value" in entry["error"]
        [line] = [line for line in await every(sessions, ReplayItem) if line.outcome]
        assert (line.outcome, line.item_id, line.why) == ("dead", ids[2], row.error)

    async def test_what_may_not_be_done_now_is_left_and_what_has_no_answer_is_dead_again(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        events = ["waits", "has no answer", "push"]
        ids = await add(engine, 3, "dead", event=f"(ARRAY{events})[i]")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan, failures=1)

        assert await drive(owner, Handling()) == 3

        seen = await progress(sessions, plan)
        assert (seen.delivered, seen.skipped, seen.dead) == (1, 1, 1)
        # What waits may have written whom it calls.
        assert await effects(engine) == 2
        assert [(await of(sessions, each)).attempts for each in ids] == [8, 9, 8]
        assert (await of(sessions, ids[1])).cause == "Stop: there is no such connection"
        whys = {line.item_id: line.why for line in await every(sessions, ReplayItem)}
        assert whys[ids[0]] == "not tried: webhook is paused by ada"

    async def test_tells_no_older_change_after_a_newer_one(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        [old] = await add(engine, 1, "dead", resource="'r'")
        [new] = await add(engine, 1, "delivered", resource="'r'")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan)

        assert await drive(owner, Handling()) == 1

        row = await of(sessions, old)
        assert (row.status, row.folded_into) == ("coalesced", new)
        assert await effects(engine) == 0
        [line] = await every(sessions, ReplayItem)
        assert (line.outcome, line.why) == ("skipped", "a later change of its resource was handled in its place")

    async def test_of_what_ends_a_grant_is_one_delivery(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        """Whoever locks many connections, one after the other, waits for somebody who waits for them."""
        await add(engine, 2, "dead")
        await add(engine, 2, "dead", event="'gone'")
        await add(engine, 2, "dead")
        await released(sessions, await made(sessions, "webhooks"))

        [window] = await replay.windows(owner, "webhooks", range(16))

        assert [await webhook_replay.batch(owner, window, 10, Handling()) for _ in range(5)] == [2, 1, 1, 2, 0]

    async def test_takes_no_more_once_the_budget_is_used_up(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add(engine, 20, "dead", event="'poison'")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan, failures=2)

        assert await drive(owner, Handling()) == 3

        assert (await progress(sessions, plan)).dead == 3

    @pytest.mark.parametrize(
        ("by_now", "why"),
        [
            ("pending", "in the flow again: the provider sent it once more"),
            ("retrying", "in the flow again: its own workflow tries it"),
            ("delivered", None),
            (None, "its row is gone"),
        ],
    )
    async def test_leaves_alone_what_is_not_dead_any_more(
        self, by_now: str | None, why: str | None, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add(engine, 1, "dead")
        plan = await made(sessions, "webhooks")
        change = (
            f"UPDATE service_webhook_deliveries SET status = '{by_now}'"
            if by_now
            else ("DELETE FROM service_webhook_deliveries")
        )
        async with engine.begin() as connection:
            await connection.execute(text(change))
        await released(sessions, plan)

        assert await drive(owner, Handling()) == 1

        assert (await progress(sessions, plan)).skipped == 1
        assert await effects(engine) == 0
        assert await statuses(engine) == ({by_now: 1} if by_now else {})
        [line] = await every(sessions, ReplayItem)
        assert line.why == why

    async def test_whose_session_ends_in_the_middle_has_done_nothing(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add(engine, 4, "dead", event="CASE i WHEN 4 THEN 'ends the session' ELSE 'push' END")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan)

        with pytest.raises(Exception, match=r"terminat|closed"):
            await drive(owner, Handling())

        assert await effects(engine) == 0
        assert await statuses(engine) == {"dead": 4}
        assert (await progress(sessions, plan)).done == 0

    async def test_that_comes_after_the_plans_end_does_nothing(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add(engine, 4, "dead")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan)
        [window] = await replay.windows(owner, "webhooks", range(16))
        async with sessions.begin() as session:
            await replay_plans.end(session, End(plan_id=plan.plan_id, ledger="webhooks", status=PlanStatus.CANCELLED))

        assert await webhook_replay.batch(owner, window, 10, Handling()) == 0

        assert await effects(engine) == 0
        assert (await row_of(sessions, plan)).outcome["untouched"] == 4  # type: ignore[index]

    async def test_of_a_plan_that_was_paused_meanwhile_does_nothing(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        await add(engine, 4, "dead")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan)
        [window] = await replay.windows(owner, "webhooks", range(16))
        async with sessions.begin() as session:
            await replay.pause(session, plan.plan_id)

        assert await webhook_replay.batch(owner, window, 10, Handling()) == 0

        assert await effects(engine) == 0

    async def test_names_its_next_and_gives_it_up(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        ids = await add(engine, 2, "dead")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan, failures=1)
        [window] = await replay.windows(owner, "webhooks", range(16))
        assert await replay.next_one(owner, window) == ids[0]

        assert await webhook_replay.give_up(owner, ids[0], Failure.of("Crash", "no word")) == 1
        assert await webhook_replay.give_up(owner, ids[0], Failure.of("Crash", "no word")) == 0

        assert await replay.next_one(owner, window) == ids[1]
        assert (await progress(sessions, plan)).dead == 1
        assert (await of(sessions, ids[0])).cause == "Crash: no word"


class TestFilters:
    async def test_mean_deliveries(self, engine: AsyncEngine, sessions: Sessions) -> None:
        old = await add(engine, 1, "dead", age=timedelta(hours=3), event="'issues.opened'")
        other = await add(engine, 1, "dead", provider_id="'slack'", failure=Failure.of("Other", "reason"))
        retried = await add(engine, 1, "retrying", event="'issues.closed'")
        await add(engine, 1, "delivered")
        hours_ago = datetime.now(UTC) - timedelta(hours=2)

        assert await chosen(sessions) == {*old, *other}
        assert await chosen(sessions, until=hours_ago) == {*old}
        assert await chosen(sessions, since=hours_ago) == {*other}
        assert await chosen(sessions, provider="slack") == {*other}
        assert await chosen(sessions, cause=CAUSE.fingerprint) == {*old}
        assert await chosen(sessions, cause="Other") == {*other}
        both = (ItemStatus.DEAD, ItemStatus.RETRYING)
        assert await chosen(sessions, event_type="issues.*", statuses=both) == {*old, *retried}

    async def test_mean_a_connection_by_its_channel_or_its_account(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        mine = await add_connection(sessions, provider_id="github", account_id="ada")
        another = await add_connection(sessions, provider_id="github", account_id="bob", scope_id="other")
        async with sessions.begin() as session:
            for name, connection_id in (("app", None), ("own", mine.id)):
                told = {"made_by": "ada", "reason": "a test"}
                session.add(WebhookChannel(provider_id="github", channel=name, connection_id=connection_id, **told))
        by_account = await add(engine, 1, "dead", account="'ada'")
        by_channel = await add(engine, 1, "dead", channel="'own'", account="'somebody'")
        bobs = await add(engine, 1, "dead", account="'bob'")
        await add(engine, 1, "dead")
        await add(engine, 1, "dead", provider_id="'slack'", account="'ada'")

        assert await chosen(sessions, connection=mine.id) == {*by_account, *by_channel}
        assert await chosen(sessions, connection=another.id) == {*bobs}
        assert await chosen(sessions, tenant="org:acme") == {*by_account, *by_channel}

    async def test_that_mean_nothing_make_no_plan(self, sessions: Sessions) -> None:
        with pytest.raises(StopError, match="runbook webhooks dead"):
            await made(sessions, "webhooks")


async def chosen(sessions: Sessions, **filters: Any) -> set[UUID]:
    plan = await made(sessions, "webhooks", **filters)
    return {line.item_id for line in await every(sessions, ReplayItem) if line.plan_id == plan.plan_id}
