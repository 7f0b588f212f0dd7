"""What becomes of a message that left the flow: tried once more, told by another channel, dead."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.testing import ActivityEnvironment

from activities.notification import NotificationActivities, SendFailedError
from integrations.db.vault import Vault
from integrations.domain.errors import NotReadyError, TryAgainError
from integrations.domain.notification_delivery import RETRYING, SendStep
from tests.notification.ground import IDLE, Ground, ground
from tests.notification.sink import Sink, receiving
from tests.outbox.events import add_events, refused, rows


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Ground]:
    async with ground(engine, database_url, vault) as made:
        yield made


@pytest_asyncio.fixture
async def sink(told: Ground) -> AsyncIterator[Sink]:
    """Where the operators' webhook leads, and nothing arrives yet."""
    async with receiving(lambda _key, _nth: 503) as made:
        await told.add_address(made.url)
        yield made


async def failed(told: Ground) -> SendStep:
    """One message that left the flow."""
    await add_events(told.engine, name="told.news")
    await told.request()
    await told.work(until=IDLE)
    (left,) = told.started
    return SendStep(dispatch_id=left.dispatch_id)


async def send(told: Ground, step: SendStep) -> tuple[str, str]:
    sent = await ActivityEnvironment().run(activities(told).send, step)
    return sent.status, sent.cause


def activities(told: Ground) -> NotificationActivities:
    return NotificationActivities(
        told.sessions, told.url, told.channels, told.rules, told.composer, told.ending, RETRYING
    )


def deadlocked(engine: AsyncEngine, what: str) -> AbstractAsyncContextManager[None]:
    """A database in trouble whenever a dispatch becomes something for which `what` holds."""
    does = "RAISE 'deadlock detected' USING ERRCODE = '40P01'"
    return refused(engine, what, table="service_notification_dispatches", does=does, on="UPDATE")


CHANNELS = "SELECT channel, status, cause FROM service_notification_dispatches ORDER BY 1"


class TestOneMoreAttempt:
    async def test_delivers(self, told: Ground, sink: Sink) -> None:
        step = await failed(told)
        sink.answers = lambda _key, _nth: 202

        assert await send(told, step) == ("delivered", "")

        (row,) = await rows(told.engine, "SELECT * FROM service_notification_dispatches")
        assert (row.status, row.attempts, row.token) == ("delivered", 2, None)
        assert [status for _, status in sink.arrivals] == [503, 202]
        assert len({key for key, _ in sink.arrivals}) == 1

    async def test_fails_again_with_the_wait_that_was_asked_for(self, told: Ground, sink: Sink) -> None:
        step = await failed(told)
        sink.retry_after = 7

        with pytest.raises(SendFailedError) as raised:
            await send(told, step)

        (row,) = await rows(told.engine, "SELECT *, lease_until > now() AS leased FROM service_notification_dispatches")
        assert raised.value.after == timedelta(seconds=7)
        assert (row.status, row.attempts, len(row.history), row.leased) == ("retrying", 2, 2, True)

    async def test_says_nothing_of_the_message_when_the_database_has_trouble(self, told: Ground, sink: Sink) -> None:
        step = await failed(told)

        async with deadlocked(told.engine, "true"):
            with pytest.raises(TryAgainError, match=r"Postgres: .*deadlock") as raised:
                await send(told, step)

        (row,) = await rows(told.engine, "SELECT status, attempts FROM service_notification_dispatches")
        assert not isinstance(raised.value, SendFailedError)
        assert (row.status, row.attempts) == ("retrying", 1)

    async def test_says_nothing_of_the_message_when_a_key_is_missing(self, told: Ground, sink: Sink) -> None:
        step = await failed(told)
        await rows(told.engine, "UPDATE service_contact_addresses SET key_id = 'k0' RETURNING 1")

        with pytest.raises(NotReadyError, match="k0"):
            await send(told, step)

        (row,) = await rows(told.engine, "SELECT status, attempts FROM service_notification_dispatches")
        assert (row.status, row.attempts) == ("retrying", 1)
        assert len(sink.arrivals) == 1

    async def test_of_what_is_settled_does_nothing(self, told: Ground, sink: Sink) -> None:
        step = await failed(told)
        await rows(told.engine, "UPDATE service_notification_dispatches SET status = 'delivered' RETURNING 1")

        assert await send(told, step) == ("settled before", "")
        assert len(sink.arrivals) == 1

    async def test_of_what_is_no_news_any_more_drops_it(self, told: Ground, sink: Sink) -> None:
        step = await failed(told)
        await rows(told.engine, "UPDATE service_notification_dispatches SET expires_at = now() RETURNING 1")

        status, cause = await send(told, step)

        assert (status, cause.split(":")[0]) == ("dropped", "Old")
        assert len(sink.arrivals) == 1

    async def test_lets_those_go_on_that_were_held_for_it(self, told: Ground, sink: Sink) -> None:
        await add_events(told.engine, 30, name="told.news")
        await told.request()
        await told.work(until=IDLE)
        (whole,) = [each for each in told.started if each.whole]
        sink.answers = lambda _key, _nth: 202

        await send(told, SendStep(dispatch_id=whole.dispatch_id))

        assert await rows(told.engine, "SELECT released_at IS NOT NULL FROM service_ledger_holds") == [(True,)]


class TestGivingUp:
    async def test_is_dead_with_what_was_to_be_said(self, told: Ground, sink: Sink) -> None:
        step = await failed(told)

        sent = await ActivityEnvironment().run(activities(told).give_up, step)

        (row,) = await rows(told.engine, "SELECT * FROM service_notification_dispatches")
        assert (sent.status, sent.attempts) == ("dead", 1)
        assert row.rendered["subject"] == "told.news"
        assert row.cause == sent.cause == "HTTP 503: the receiver answered …: it is in trouble"
        assert len(sink.arrivals) == 1

    async def test_goes_on_by_the_recipients_next_channel(self, told: Ground, sink: Sink) -> None:
        async with receiving() as other:
            await told.add_address(f"json{other.url.removeprefix('http')}", channel="apprise")
            step = await failed(told)

            sent = await ActivityEnvironment().run(activities(told).give_up, step)

        found = await rows(told.engine, CHANNELS)
        assert (sent.status, sent.cause) == ("dropped", "Failover: webhook gave up, apprise follows")
        assert found == [("apprise", "pending", None), ("webhook", "dropped", sent.cause)]

    async def test_goes_on_by_no_other_channel_unless_this_one_ends(self, told: Ground, sink: Sink) -> None:
        """Else the next attempt would find both channels tried, and call dead what was told by the second."""
        await told.add_address("json://127.0.0.1:9/hook", channel="apprise")
        step = await failed(told)

        async with deadlocked(told.engine, "NEW.status = 'dropped'"):
            with pytest.raises(DBAPIError, match="deadlock"):
                await ActivityEnvironment().run(activities(told).give_up, step)
        meanwhile = await rows(told.engine, CHANNELS)
        sent = await ActivityEnvironment().run(activities(told).give_up, step)

        assert [(row.channel, row.status) for row in meanwhile] == [("webhook", "retrying")]
        assert sent.cause == "Failover: webhook gave up, apprise follows"


class TestAMessageThatArrivedWhileTheDatabaseWasAway:
    async def test_is_settled_by_the_next_attempt_and_not_sent_again(self, told: Ground, sink: Sink) -> None:
        step = await failed(told)
        sink.answers = lambda _key, _nth: 202
        steps = activities(told)
        async with deadlocked(told.engine, "NEW.status = 'delivered'"):
            with pytest.raises(TryAgainError):
                await ActivityEnvironment().run(steps.send, step)

        sent = await ActivityEnvironment().run(steps.send, step)

        assert sent.status == "delivered"
        assert [status for _, status in sink.arrivals] == [503, 202]
