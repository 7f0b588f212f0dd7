"""The flow of deliveries, on a connection that owns every partition."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import automation
from integrations.db import webhook_brake as brake
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_handlers import Handling
from integrations.db.webhook_tables import WebhookDelivery
from integrations.domain.automation import FailureMode
from integrations.domain.ledger import WHOLE_AFTER
from integrations.domain.webhook import Left, Reaction
from integrations.domain.webhook_selftest import mark
from tests.factories import add_connection, every, stored
from tests.outbox.events import refused, rows
from tests.webhook.given import KEY, WATCHED, add, channel_of, delivery, statuses, told

POISON = "NEW.payload ->> 'event' = 'poison'"
OUTBOX = "service_lifecycle_outbox"


class TestABatch:
    async def test_makes_one_event_of_each_delivery_and_settles_it(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        ids = await add(engine, 50)

        moved = [(await flow.batch(owner, 0, 20)).taken for _ in range(4)]

        assert moved == [20, 20, 10, 0]
        assert await statuses(engine) == {"delivered": 50}
        events = await told(engine)
        assert {row.delivery for row in events} == {str(each) for each in ids}
        assert sorted(row.seq for row in events) == list(range(1, 51))
        assert {(row.name, row.scope_id) for row in events} == {("webhook.received", "operators")}
        row = await delivery(sessions, ids[0])
        assert (row.handled_as, row.attempts, row.lease_until) == ("webhook.received", 0, None)
        assert row.settled_at is not None

    async def test_says_what_it_is_and_keeps_the_body_to_itself(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        [given] = await add(engine, body="'a secret'::bytea", delivery_id="'d1'", account="'acct_1'")

        await flow.batch(owner, 0, 20)

        [event] = await told(engine)
        assert event.payload == {
            "delivery": str(given),
            "provider": "github",
            "channel": "app",
            "delivery_id": "d1",
            "event": "push",
            "reaction": "event",
            "resource": "",
            "account": "acct_1",
            "replay": False,
        }

    async def test_is_about_the_channels_connection_and_counted_with_its_other_events(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await add_connection(sessions, provider_id="github")
        await channel_of(sessions, mine)
        await add(engine, 3)
        await flow.batch(owner, 0, 2)
        await flow.batch(owner, 0, 2)

        events = await told(engine)

        assert [(row.connection_id, row.order_key, row.seq) for row in events] == [
            (mine.id, str(mine.id), number) for number in (1, 2, 3)
        ]
        assert (await stored(sessions, Connection, mine.id)).seq == 3

    async def test_is_about_each_connected_one_of_the_account_that_it_names(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        at_github: dict[str, Any] = {"provider_id": "github", "account_id": "acct_1"}
        two = [await add_connection(sessions, scope_id=scope, **at_github) for scope in ("acme", "globex")]
        await add_connection(sessions, status="disconnected", **at_github)
        await add_connection(sessions, provider_id="github", account_id="acct_2")
        await add_connection(sessions, account_id="acct_1")
        [given] = await add(engine, account="'acct_1'")

        await flow.batch(owner, 0, 20)

        events = await told(engine)
        assert {row.connection_id for row in events} == {each.id for each in two}
        assert len(events) == 2
        assert (await delivery(sessions, given)).handled_as == "webhook.received of 2 connections"

    async def test_tells_nothing_twice_whatever_became_of_its_settle(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await add_connection(sessions, provider_id="github")
        await channel_of(sessions, mine)
        await add(engine, 2)
        await flow.batch(owner, 0, 20)
        await rows(engine, "UPDATE service_webhook_deliveries SET status = 'pending' RETURNING 1")

        await flow.batch(owner, 0, 20)

        assert await statuses(engine) == {"delivered": 2}
        assert [row.seq for row in await told(engine)] == [1, 2]
        assert (await stored(sessions, Connection, mine.id)).seq == 2

    async def test_takes_its_own_partition_and_what_is_due(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, part="1")
        await add(engine, due_at="now() + interval '1 minute'")

        assert (await flow.batch(owner, 0, 20)).taken == 0
        assert (await flow.batch(owner, 1, 20)).taken == 1

    async def test_begins_where_the_last_one_ended(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, 3, due_at="at - interval '1 hour' + i * interval '1 second'")
        first = await flow.batch(owner, 0, 1)
        await rows(
            engine,
            "UPDATE service_webhook_deliveries SET status = 'pending' WHERE settled_at > now() - "
            "interval '1 hour' RETURNING 1",
        )

        second = await flow.batch(owner, 0, 10, first.upto + 1)

        assert (first.taken, second.taken) == (1, 2)
        assert second.upto == first.upto + 2_000_000

    async def test_settles_a_self_test_of_ours_and_nobody_elses(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        ours = mark(KEY, "github", "app", "ours")
        [mine] = await add(engine, delivery_id="'ours'", headers=f"jsonb_build_object('x-runbook-self-test', '{ours}')")
        await add(engine, delivery_id="'other'", headers=f"jsonb_build_object('x-runbook-self-test', '{ours}')")

        await flow.batch(owner, 0, 20)

        assert (await delivery(sessions, mine)).handled_as == "self test"
        assert [row.payload["delivery_id"] for row in await told(engine)] == ["other"]

    async def test_what_was_missed_is_an_event_of_its_own(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, event="'lost'")

        await flow.batch(owner, 0, 20)

        assert [row.name for row in await told(engine)] == ["webhook.missed"]


class TestHeldBack:
    async def test_nothing_is_handled_while_webhooks_are_paused(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, 3)
        async with sessions.begin() as session:
            await automation.pause(session, [FailureMode.WEBHOOK], timedelta(hours=1), by="ada", reason="look")

        assert (await flow.batch(owner, 0, 20)).taken == 0
        assert await flow.next_one(owner, 0) is None, "nothing is suspected of what nobody tries"
        assert await statuses(engine) == {"pending": 3}
        async with sessions.begin() as session:
            await automation.resume(session, [FailureMode.WEBHOOK], by="ada", reason="seen")
        assert (await flow.batch(owner, 0, 20)).taken == 3


class TestWhatFails:
    async def test_leaves_the_flow_alone_with_its_cause(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await add_connection(sessions, provider_id="github")
        await channel_of(sessions, mine)
        await add(engine, 6)
        [poison] = await add(engine, event="'poison'")
        await add(engine, 6)

        async with refused(engine, POISON, OUTBOX):
            moved = await flow.batch(owner, 0, 20)

        assert await statuses(engine) == {"delivered": 12, "retrying": 1}
        assert len(await told(engine)) == 12
        assert moved.failed == (
            Left(
                id=poison,
                provider_id="github",
                channel="app",
                event="poison",
                handler="event",
                tenant="org:acme",
                connection_id=mine.id,
                cause="Raise: it is refused",
            ),
        )
        row = await delivery(sessions, poison)
        assert (row.attempts, row.cause, row.lease_until is not None) == (1, "Raise: it is refused", True)
        assert [each["attempt"] for each in row.history or ()] == [1]

    async def test_a_mistake_in_a_handler_is_its_deliverys_and_tells_no_values(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection
    ) -> None:
        async def mistaken(_session: Any, given: Any, _replayed: bool) -> Any:
            raise KeyError(given[0].event)

        broken = Flow(Handling(WATCHED, KEY, {Reaction.MISSED: mistaken}))
        [given] = await add(engine, event="'lost'")
        await add(engine)

        moved = await broken.batch(owner, 0, 20)

        assert [each.cause for each in moved.failed if isinstance(each, Left)] == ["Key: Key"]
        assert await statuses(engine) == {"delivered": 1, "retrying": 1}
        assert (await delivery(sessions, given)).error == "Key: Key"

    async def test_twenty_in_a_row_brake_the_handler_and_one_tries_for_all(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, 60)
        await add(engine, event="'lost'")

        async with refused(engine, "NEW.name = 'webhook.received'", OUTBOX):
            moved = await flow.batch(owner, 0, 100)
            await add(engine, 5)
            later = await flow.batch(owner, 0, 100)

        assert len(moved.failed) == WHOLE_AFTER
        assert (later.taken, later.failed) == (5, ())
        assert await statuses(engine) == {"retrying": WHOLE_AFTER, "pending": 45, "delivered": 1}
        assert (await flow.batch(owner, 0, 100)).taken == 0
        [hold, *others] = await rows(engine, "SELECT * FROM service_ledger_holds WHERE released_at IS NULL")
        assert len(others) == 15
        assert (hold.destination, hold.order_key) == ("event", "*")

    async def test_what_was_held_back_goes_on_once_that_one_is_settled(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, 30)
        async with refused(engine, "true", OUTBOX):
            await flow.batch(owner, 0, 100)
        assert (await flow.released(owner, 0, 100)).taken == 10
        assert (await flow.batch(owner, 0, 100)).taken == 10
        assert await statuses(engine) == {"retrying": WHOLE_AFTER, "pending": 10}
        await rows(engine, "UPDATE service_ledger_holds SET released_at = now() RETURNING 1")

        released = (await flow.released(owner, 0, 100)).taken

        assert released == 11
        assert (await flow.released(owner, 0, 100)).taken == 0
        assert (await flow.batch(owner, 0, 100)).taken == 10
        assert await statuses(engine) == {"retrying": WHOLE_AFTER, "delivered": 10}
        assert len(await every(sessions, WebhookDelivery, status="pending")) == 0

    async def test_changes_of_a_few_resources_are_all_held_back_and_met_once(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        [trial] = await add(engine, status="retrying", resource="'file-0'")
        await brake.put_on(owner, Reaction.EVENT, trial)
        # Of one moment, as when others were let go on: a batch cannot begin behind some of them.
        await add(engine, 250, resource="'file-' || (i % 2)", due_at="at - interval '1 second'")

        taken = [(await flow.batch(owner, 0, 100)).taken for _ in range(4)]

        assert taken == [100, 100, 50, 0]
        assert await statuses(engine) == {"retrying": 1, "pending": 250}, "nobody's trial is folded away"
        async with sessions.begin() as session:
            await brake.release(session, trial)
        await flow.released(owner, 0, 100)
        assert (await flow.batch(owner, 0, 300)).taken == 250
        assert await statuses(engine) == {"coalesced": 249, "delivered": 2}

    async def test_a_database_in_trouble_says_nothing_of_any_delivery(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, 4)

        async with refused(engine, "true", OUTBOX, "RAISE 'full' USING ERRCODE = '53100'"):
            with pytest.raises(Exception, match="full"):
                await flow.batch(owner, 0, 20)

        assert await statuses(engine) == {"pending": 4}
        assert (await owner.execute(text("SELECT 1"))).scalar_one() == 1
        assert (await flow.batch(owner, 0, 20)).taken == 4
