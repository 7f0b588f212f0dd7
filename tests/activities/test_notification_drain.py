import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from activities.notification_drain import ChannelDrain
from integrations.db import notification_claims as claims
from integrations.db import notification_expand as expansion
from integrations.db import notification_flow as flow
from integrations.db.notification_claims import Claimed
from integrations.db.vault import Vault
from integrations.domain.notification import Answer
from integrations.domain.notification_delivery import Sending
from integrations.domain.verdict import Meaning
from tests.notification.ground import IDLE, Ground, ground
from tests.notification.sink import Sink, receiving
from tests.outbox.events import add_events, rows


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Ground]:
    async with ground(engine, database_url, vault) as made:
        yield made


@pytest_asyncio.fixture
async def sink() -> AsyncIterator[Sink]:
    async with receiving() as made:
        yield made


async def events(told: Ground, count: int) -> None:
    await add_events(told.engine, count, name="told.news", connections=count)
    await told.request()


class TestADispatcher:
    async def test_sends_what_was_requested_once(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        await events(told, 50)

        await told.work(until=IDLE)

        assert await told.statuses() == {"delivered": 50}
        assert len(sink.accepted) == len(set(sink.accepted)) == 50
        assert told.started == []

    async def test_gives_what_fails_a_workflow_of_its_own(self, told: Ground, sink: Sink) -> None:
        sink.answers = lambda _key, _nth: 503 if len(sink.arrivals) % 10 == 0 else 202
        await told.add_address(sink.url)
        await events(told, 50)

        await told.work(until=IDLE)

        assert await told.statuses() == {"delivered": 45, "retrying": 5}
        assert {each.cause for each in told.started} == {"HTTP 503: the receiver answered …: it is in trouble"}
        assert len({each.key for each in told.started}) == 5
        assert sink.after_success == []

    async def test_keeps_what_is_refused_with_all_that_was_to_be_said(self, told: Ground, sink: Sink) -> None:
        sink.answers = lambda _key, _nth: 410
        await told.add_address(sink.url)
        await events(told, 1)

        await told.work(until=IDLE)

        (row,) = await rows(told.engine, "SELECT * FROM service_notification_dispatches")
        assert (row.status, row.attempts, row.settled_at is not None) == ("dead", 1, True)
        assert row.rendered["text"] == "Simulator of org:acme: 1\n"
        assert "127.0.0.1" in row.rendered["to"]
        assert [entry["by"] for entry in row.history] == ["webhook dispatcher"]
        assert told.started == []

    async def test_writes_down_that_nobody_is_there_to_be_told(self, told: Ground) -> None:
        await events(told, 3)

        await told.work(until=IDLE)

        found = await rows(told.engine, "SELECT DISTINCT status, cause, error FROM service_notification_dispatches")
        assert found == [
            (
                "nobody",
                "Nobody: operators.primary has no address",
                "operators.primary has no address: runbook contacts add operators.primary email ADDRESS",
            )
        ]

    async def test_sends_nothing_more_to_where_twenty_in_a_row_failed(self, told: Ground, sink: Sink) -> None:
        sink.answers = lambda _key, _nth: 503
        await told.add_address(sink.url)
        await events(told, 200)

        await told.work(until=IDLE)

        found = await told.statuses()
        assert 20 <= found["retrying"] < 20 + 4
        assert found["held"] == 200 - found["retrying"]
        assert [each.whole for each in told.started].count(True) == 1

    async def test_goes_on_when_what_tried_for_all_is_settled(self, told: Ground, sink: Sink) -> None:
        sink.answers = lambda _key, _nth: 503
        await told.add_address(sink.url)
        await events(told, 100)
        await told.work(until=IDLE)
        sink.answers = lambda _key, _nth: 202
        await rows(told.engine, "UPDATE service_ledger_holds SET released_at = now() RETURNING 1")

        await told.work(until="SELECT NOT EXISTS (SELECT FROM service_ledger_holds)")
        await told.work(until=IDLE)

        found = await told.statuses()
        assert found == {"retrying": len(told.started), "delivered": 100 - len(told.started)}

    async def test_takes_up_what_a_process_took_with_it(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        await events(told, 5)
        async with told.at() as drain:
            await flow_of(drain)
        before = await told.statuses()
        await rows(
            told.engine, "UPDATE service_notification_dispatches SET lease_until = now() - interval '1 s' RETURNING 1"
        )

        await told.work(until=IDLE)

        assert before == {"processing": 5}
        assert await told.statuses() == {"delivered": 5}
        assert len(sink.accepted) == 5

    async def test_settles_nothing_that_is_somebody_elses_by_now(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        await events(told, 1)
        async with told.at() as drain:
            (item,) = await flow_of(drain)
            await rows(told.engine, "UPDATE service_notification_dispatches SET token = gen_random_uuid() RETURNING 1")

            settled = await flow.sent(drain.connection, 0, "webhook", [(item, "v")])

        assert settled == 0
        assert await told.statuses() == {"processing": 1}


class TestAReceiverThatTakesItsTime:
    """Twelve messages, four at once."""

    async def test_costs_nobody_the_session(self, told: Ground, sink: Sink) -> None:
        sink.seconds = 2
        async with sending(told, sink) as (drain, working):
            await drain.connection.execute(text("SET idle_session_timeout = '4s'"))
            async with asyncio.timeout(60):
                while (await told.statuses()).get("delivered", 0) < 4:
                    await asyncio.sleep(0.1)
            early = await told.statuses()
            async with asyncio.timeout(60):
                while await told.statuses() != {"delivered": 12}:
                    await asyncio.sleep(0.1)
            told.leaving = True
            await working

        assert "processing" in early, "what arrived is settled while others are on their way"
        assert len(sink.arrivals) == 12

    async def test_is_not_waited_for_by_a_worker_that_is_being_stopped(self, told: Ground, sink: Sink) -> None:
        sink.seconds = 1
        async with sending(told, sink) as (_, working):
            told.leaving = True
            await working

        assert await told.statuses() == {"delivered": len(sink.arrivals), "pending": 12 - len(sink.arrivals)}
        assert len(sink.arrivals) < 12

    async def test_is_sent_nothing_twice_for_that_the_dispatcher_is_ended(self, told: Ground, sink: Sink) -> None:
        sink.seconds = 1
        async with sending(told, sink) as (drain, working):
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            await drain.leave_behind(told.sessions)

        assert await told.statuses() == {"delivered": len(sink.arrivals), "processing": 12 - len(sink.arrivals)}


@asynccontextmanager
async def sending(told: Ground, sink: Sink) -> AsyncIterator[tuple[ChannelDrain, asyncio.Task[Sending]]]:
    """A dispatcher whose first messages have just arrived."""
    await told.add_address(sink.url)
    await events(told, 12)
    async with told.at() as drain:
        working = asyncio.create_task(drain.run(again=False))
        async with asyncio.timeout(20):
            while not sink.arrivals:
                await asyncio.sleep(0.02)
        yield drain, working


async def flow_of(drain: ChannelDrain) -> list[Claimed]:
    """Expand and claim, as a dispatcher that dies then."""
    await expansion.expand(drain.connection, drain.rules, 100)
    return await claims.claim(drain.connection, drain.part, 100)


class TestTheSecondAttempt:
    async def test_comes_after_the_first_wait_or_what_the_receiver_asked_for(self, told: Ground, sink: Sink) -> None:
        sink.answers = lambda _key, _nth: 503
        await told.add_address(sink.url)
        await events(told, 1)
        await told.work(until=IDLE)
        sink.retry_after = 70
        await events(told, 1)

        await told.work(until=IDLE)

        first, second = (each.wait.total_seconds() for each in told.started)
        # Up to a quarter more: those that failed together do not come back together.
        assert 10 <= first < 12.6
        assert 70 <= second < 87.6

    async def test_of_many_whose_key_is_missing_is_made_by_a_few(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        await rows(told.engine, "UPDATE service_contact_addresses SET key_id = 'k0' RETURNING 1")
        await events(told, 100)

        await told.work(until=IDLE)

        found = await told.statuses()
        assert found["retrying"] == len(told.started) <= 20 + 20
        assert found["held"] == 100 - found["retrying"]
        assert sink.arrivals == []

    async def test_is_dead_when_nothing_arrived_for_as_long_as_it_was_news(self, told: Ground, sink: Sink) -> None:
        sink.answers = lambda _key, _nth: 503
        await told.add_address(sink.url)
        await events(told, 60)
        await told.work(until=IDLE)
        await rows(told.engine, "UPDATE service_notification_dispatches SET expires_at = now() RETURNING 1")

        await told.work(until="SELECT NOT EXISTS (SELECT FROM service_notification_dispatches WHERE status = 'held')")

        found = await rows(
            told.engine, "SELECT cause, count(*) FROM service_notification_dispatches WHERE status = 'dead' GROUP BY 1"
        )
        assert found == [
            ("Out: nothing arrived where webhook leads for as long as it was news", 60 - len(told.started))
        ]

    async def test_follows_an_address_that_leads_elsewhere_by_now(self, told: Ground, sink: Sink) -> None:
        sink.answers = lambda _key, _nth: 503
        await told.add_address(sink.url)
        await events(told, 60)
        await told.work(until=IDLE)
        async with receiving() as other:
            await told.add_address(other.url)

            await told.work(
                until="SELECT NOT EXISTS (SELECT FROM service_notification_dispatches WHERE status = 'held')"
            )
            await told.work(until=IDLE)

        assert len(other.accepted) == 60 - len(told.started)

    async def test_is_not_missed_by_reconcile_before_its_wait_is_over(self, told: Ground, sink: Sink) -> None:
        sink.answers, sink.retry_after = lambda _key, _nth: 503, 70
        await told.add_address(sink.url)
        await events(told, 1)

        await told.work(until=IDLE)

        sql = "SELECT lease_until > now() + interval '90 s' FROM service_notification_dispatches"
        assert await rows(told.engine, sql) == [(True,)]

    async def test_is_not_begun_for_what_is_somebody_elses_by_now(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        await events(told, 1)
        async with told.at() as drain:
            (item,) = await flow_of(drain)
            await rows(told.engine, "UPDATE service_notification_dispatches SET token = gen_random_uuid() RETURNING 1")
            told.done.failed.append((item, Answer(meaning=Meaning.OUTAGE, kind="HTTP 503", why="trouble"), True))

            await drain._settle()

        assert told.started == []
        assert await rows(told.engine, "SELECT 1 FROM service_ledger_holds") == []
