"""Coalescing: a window, its trailing edge, and what becomes of the changes before the last."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import webhook_audit, webhook_coalescing, webhook_trouble
from integrations.db.session import Sessions
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_handlers import Handling
from integrations.db.webhook_ingress import Deliveries
from tests.outbox.events import refused, rows
from tests.webhook.given import CAUSE, add, delivery, drained, sent, statuses, told

DUE = "now() - interval '1 second'"
LATER = "now() + interval '1 minute'"
OUTBOX = "service_lifecycle_outbox"


async def handled(engine: AsyncEngine) -> list[str]:
    return [row.delivery for row in await told(engine)]


class TestABurst:
    async def test_is_handled_by_its_last_change_and_the_others_say_so(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        first = await add(engine, 1, resource="'file-1'", due_at=DUE)
        more = await add(engine, 4, resource="'file-1'", due_at=LATER)

        moved = await flow.batch(owner, 0, 1)

        assert moved.taken == 1
        assert await statuses(engine) == {"coalesced": 4, "delivered": 1}
        assert await handled(engine) == [str(more[-1])]
        for each in (*first, *more[:-1]):
            row = await delivery(sessions, each)
            assert (row.status, row.folded_into, row.settled_at is not None) == ("coalesced", more[-1], True)

    async def test_waits_for_its_window(self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow) -> None:
        await add(engine, 3, resource="'file-1'", due_at=LATER)

        assert (await flow.batch(owner, 0, 100)).taken == 0

    async def test_leaves_other_resources_channels_and_providers_alone(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, resource="'file-2'", due_at=LATER)
        await add(engine, resource="'file-1'", channel="'other'", due_at=LATER)
        await add(engine, resource="'file-1'", provider_id="'google'", due_at=LATER)
        await add(engine, due_at=LATER)
        [mine] = await add(engine, resource="'file-1'", due_at=DUE)

        await flow.batch(owner, 0, 100)

        assert await statuses(engine) == {"pending": 4, "delivered": 1}
        assert await handled(engine) == [str(mine)]

    async def test_of_one_account_says_nothing_of_anothers(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        for account in ("ada", "bob"):
            await add(engine, 2, resource="'n1'", account=f"'{account}'", due_at=DUE)

        await flow.batch(owner, 0, 100)

        assert await statuses(engine) == {"delivered": 2, "coalesced": 2}
        assert {row.payload["account"] for row in await told(engine)} == {"ada", "bob"}

    async def test_of_many_resources_is_a_set(self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow) -> None:
        await add(engine, 300, resource="'file-' || (i % 50)", due_at=DUE)

        moved = await flow.batch(owner, 0, 500)

        assert moved.taken == 300
        assert await statuses(engine) == {"coalesced": 250, "delivered": 50}
        assert len(set(await handled(engine))) == 50


class TestASteadyStream:
    """W33: there, a change that comes within the window of the last one starves both."""

    async def test_gets_through_once_in_each_window_and_the_last_change_always(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        # A change each second for a minute, a window of ten: time is turned by moving what waits to the past.
        window, last = timedelta(seconds=10), None
        got_through: list[str] = []
        for _ in range(60):
            [last] = await add(engine, resource="'file-1'", due_at=f"now() + interval '{window.seconds} seconds'")
            await rows(
                engine,
                "UPDATE service_webhook_deliveries SET due_at = due_at - interval '1 second' WHERE status = 'pending' "
                "RETURNING 1",
            )
            await flow.batch(owner, 0, 100)
            got_through = await handled(engine)
        assert 5 <= len(got_through) <= 7
        await rows(engine, "UPDATE service_webhook_deliveries SET due_at = now() - interval '1 s' RETURNING 1")

        await flow.batch(owner, 0, 100)

        assert (await handled(engine))[-1] == str(last)
        assert (await statuses(engine)).keys() == {"coalesced", "delivered"}


class TestABurstWhoseLastChangeFails:
    """W6: there, what was not handled counts as processed."""

    async def test_is_in_trouble_and_no_change_of_it_was_delivered(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow, handling: Handling
    ) -> None:
        ids = await add(engine, 4, resource="'file-1'", due_at=DUE)
        async with refused(engine, "true", OUTBOX):
            [left] = (await flow.batch(owner, 0, 100)).failed

        assert getattr(left, "id", None) == ids[-1]
        assert await statuses(engine) == {"coalesced": 3, "retrying": 1}
        assert await handled(engine) == []
        async with sessions.begin() as session:
            await webhook_trouble.deliver(session, ids[-1], handling, 2)
        assert await handled(engine) == [str(ids[-1])]
        assert await statuses(engine) == {"coalesced": 3, "delivered": 1}

    async def test_is_over_with_when_a_later_change_gets_through(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow, handling: Handling
    ) -> None:
        [failed] = await add(engine, resource="'file-1'", due_at=DUE)
        async with refused(engine, "true", OUTBOX):
            await flow.batch(owner, 0, 100)
        [later] = await add(engine, resource="'file-1'", due_at=DUE)

        await flow.batch(owner, 0, 100)

        assert await handled(engine) == [str(later)]
        assert (await delivery(sessions, failed)).folded_into == later
        assert await tried(sessions, failed, handling) is None

    async def test_each_resource_for_itself(self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow) -> None:
        await add(engine, 40, resource="'file-' || (i % 10)", due_at=DUE)

        async with refused(engine, "NEW.payload ->> 'resource' = 'file-3'", OUTBOX):
            moved = await flow.batch(owner, 0, 100)

        assert len(moved.failed) == 1
        assert await statuses(engine) == {"coalesced": 30, "delivered": 9, "retrying": 1}


class TestMoreChangesThanOneTransactionFolds:
    async def test_are_folded_in_steps_into_the_one_that_was_handled(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        owner: AsyncConnection,
        flow: Flow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(webhook_coalescing, "_AT_ONCE", 5)
        ids = await add(engine, 20, resource="'r'", due_at=DUE)

        await flow.batch(owner, 0, 1)
        assert await statuses(engine) == {"pending": 14, "coalesced": 5, "delivered": 1}
        await flow.batch(owner, 0, 1)
        assert await statuses(engine) == {"pending": 8, "coalesced": 11, "delivered": 1}
        await drained(flow, owner)

        assert await statuses(engine) == {"coalesced": 19, "delivered": 1}
        assert await handled(engine) == [str(ids[-1])]
        last = await delivery(sessions, ids[-1])
        assert {
            ((await delivery(sessions, each)).folded_into, (await delivery(sessions, each)).settled_at)
            for each in ids[:-1]
        } == {(last.id, last.settled_at)}
        assert await webhook_audit.illegal(sessions) == {}

    async def test_keep_nobody_from_setting_the_last_aside(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(webhook_coalescing, "_AT_ONCE", 5)
        ids = await add(engine, 20, resource="'r'", due_at=DUE)

        assert (await flow.set_aside(owner, ids[-1], CAUSE)).taken == 1

        assert await statuses(engine) == {"pending": 14, "coalesced": 5, "retrying": 1}


async def tried(sessions: Sessions, delivery_id: UUID, handling: Handling) -> object:
    async with sessions.begin() as session:
        return await webhook_trouble.deliver(session, delivery_id, handling, 2)


class TestAnOlderChangeThanTheOneThatWasHandled:
    """Number one failed, number two was handled: whoever hears of number one now believes it to be the last."""

    async def test_is_not_told_when_it_is_sent_again(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow, ingress: Deliveries
    ) -> None:
        [old] = await add(engine, 1, "dead", resource="'r'", delivery_id="'old'")
        [others] = await add(engine, 1, "dead", resource="'r'", account="'bob'", delivery_id="'bobs'")
        [new] = await add(engine, 1, "delivered", resource="'r'", settled_at="now() - interval '1 day'")

        await ingress.record(sent("old"))
        await ingress.record(sent("bobs"))
        await drained(flow, owner)

        assert await handled(engine) == [str(others)]
        row = await delivery(sessions, old)
        assert (row.status, row.folded_into) == ("coalesced", new)
        # It was over with when that was: it is forgotten with it.
        assert row.settled_at == (await delivery(sessions, new)).settled_at

    async def test_is_over_with_as_soon_as_that_is_handled_though_it_was_given_up(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        """Kept as dead it would outlive the newer one, and be told then, with nothing there to say that it is old."""
        [old] = await add(engine, 1, "dead", resource="'r'")
        others = [*await add(engine, 1, "dead"), *await add(engine, 1, "dead", resource="'other'")]
        [new] = await add(engine, 1, resource="'r'", due_at=DUE)
        later = await add(engine, 1, "dead", resource="'r'")

        await drained(flow, owner)

        row = await delivery(sessions, old)
        assert (row.status, row.folded_into) == ("coalesced", new)
        assert row.settled_at == (await delivery(sessions, new)).settled_at
        assert {(await delivery(sessions, each)).status for each in (*others, *later)} == {"dead"}

    async def test_is_not_told_by_its_workflow(
        self, engine: AsyncEngine, sessions: Sessions, handling: Handling
    ) -> None:
        [old] = await add(engine, 1, "retrying", resource="'r'")
        await add(engine, 1, "delivered", resource="'r'")

        async with sessions.begin() as session:
            assert await webhook_trouble.deliver(session, old, handling, 2) is None

        assert await statuses(engine) == {"coalesced": 1, "delivered": 1}
        assert await handled(engine) == []


class TestOneThatTriedForItsHandler:
    async def test_lets_the_others_go_on_when_it_is_folded(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        [trying] = await add(engine, 1, "retrying", resource="'r'")
        async with engine.begin() as run:
            await run.execute(
                text(
                    "INSERT INTO service_ledger_holds (ledger, part, destination, order_key, item_id) "
                    "VALUES ('webhooks', 3, 'event', '*', :id)"
                ),
                {"id": trying},
            )
        await add(engine, 1, resource="'r'", due_at=DUE)

        await flow.batch(owner, 0, 100)

        assert await statuses(engine) == {"coalesced": 1, "delivered": 1}
        [hold] = await rows(engine, "SELECT released_at FROM service_ledger_holds")
        assert hold.released_at is not None
