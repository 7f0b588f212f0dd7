"""Ways in which notifications get lost on other platforms, or take something with them. Each by its number."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.testing import ActivityEnvironment

from activities.notification import NotificationActivities
from integrations.db.dedicated import dedicated, take
from integrations.db.outbox_flow import Flow
from integrations.db.projectors import PROJECTORS, notifying
from integrations.db.vault import Vault
from integrations.domain.notification_delivery import RETRYING, SendStep
from tests.factories import add_connection
from tests.notification.ground import IDLE, Ground, definition, ground
from tests.notification.sink import Sink, receiving
from tests.outbox.events import add_events, pairs, refused, rows, statuses
from tests.outbox.plans import made, released

CORE: Final = (
    "service_connections",
    "service_connection_transitions",
    "service_lifecycle_outbox",
    "service_projector_ledger",
    "service_activity_entries",
)
"""What notifications may never touch."""
SETTLED: Final = (
    "SELECT definition, recipient, channel, status, cause FROM service_notification_dispatches ORDER BY 1, 2"
)
NOBODY_LISTENS: Final = "http://127.0.0.1:9/hook"


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Ground]:
    spoilt = definition(id="spoilt", events=("spoilt.*", "both.*"), text="{{ payload.is_not_there }}")
    async with ground(engine, database_url, vault, [spoilt, definition(events=("told.*", "both.*"))]) as made_ground:
        await add_connection(made_ground.sessions)
        yield made_ground


@pytest_asyncio.fixture
async def sink() -> AsyncIterator[Sink]:
    async with receiving() as made_sink:
        yield made_sink


async def drained(told: Ground) -> None:
    """The outbox's part: what is pending is projected."""
    projectors = {**PROJECTORS, "notification": notifying(told.definitions.patterns)}
    async with dedicated(told.url, "test outbox") as connection:
        assert await take(connection, "outbox", [0])
        while (await Flow(projectors).batch(connection, 0, 100, 0)).taken:
            pass


async def news(told: Ground, name: str = "told.news", count: int = 1) -> list[UUID]:
    """Events that went through the outbox."""
    ids = await add_events(told.engine, count, name=name, connections=count)
    await drained(told)
    return ids


async def core(told: Ground) -> dict[str, Sequence[Any]]:
    """Each row of what is not notifications', and who wrote it last."""
    return {
        table: await rows(told.engine, f"SELECT xmin::text, t::text FROM {table} AS t ORDER BY 2") for table in CORE
    }


async def retried(told: Ground) -> None:
    """The workflows' part: one more attempt at each message that left the flow."""
    steps = NotificationActivities(
        told.sessions, told.url, told.channels, told.rules, told.composer, told.ending, RETRYING
    )
    for left in told.started:
        await ActivityEnvironment().run(steps.send, SendStep(dispatch_id=left.dispatch_id))


async def replayed(told: Ground) -> None:
    plan = await made(told.sessions, "notifications")
    await released(told.sessions, plan)
    await told.work(
        until="SELECT NOT EXISTS (SELECT FROM service_replay_progress WHERE delivered + skipped + dead < total)"
    )


class TestW2AFailedSend:
    async def test_is_sent_exactly_once_more_and_its_event_and_projections_hear_nothing_of_it(
        self, told: Ground, sink: Sink
    ) -> None:
        await told.add_address(sink.url)
        sink.answers = lambda _key, nth: 503 if nth == 1 else 202
        await news(told)
        before = await core(told)

        await told.work(until=IDLE)
        await retried(told)
        await told.work(until=IDLE)

        assert [status for _, status in sink.arrivals] == [503, 202]
        assert len({key for key, _ in sink.arrivals}) == 1
        assert await told.statuses() == {"delivered": 1}
        assert await core(told) == before

    async def test_is_not_said_to_be_delivered(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        sink.answers = lambda _key, _nth: 503
        await news(told)

        await told.work(until=IDLE)

        assert await told.statuses() == {"retrying": 1}
        assert len(told.started) == 1


class TestHazard3ADeadMessage:
    async def test_is_really_sent_again_by_a_replay(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        sink.answers = lambda _key, _nth: 410
        await news(told, count=3)
        await told.work(until=IDLE)
        sink.answers = lambda _key, _nth: 202

        await replayed(told)

        keys = {key for key, _ in sink.arrivals}
        assert await told.statuses() == {"delivered": 3}
        assert [sink.of(key) for key in keys] == [[410, 202]] * 3

    async def test_is_not_made_again_by_its_events_projection(self, told: Ground, sink: Sink) -> None:
        """Another run of the projector finds what is there: it neither revives nor repeats it."""
        await told.add_address(sink.url)
        sink.answers = lambda _key, _nth: 410
        await news(told)
        await told.work(until=IDLE)
        await rows(told.engine, "UPDATE service_notification_requests SET status = 'pending' RETURNING 1")

        await told.work(until=IDLE)

        assert await told.statuses() == {"dead": 1}
        assert len(sink.arrivals) == 1


class TestHazard7AProjectorInTrouble:
    async def test_that_makes_requests_stops_no_other_and_has_none_run_again(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        async with refused(told.engine, "true", table="service_notification_requests"):
            await news(told, count=3)

        assert await pairs(told.engine) == {("activity", "delivered"): 3, ("notification", "retrying"): 3}
        assert await rows(told.engine, "SELECT count(*) FROM service_activity_entries") == [(3,)]


class TestHazard10AFailedRecipient:
    @pytest.mark.parametrize("answer", [410, 503], ids=["refuses", "is in trouble"])
    async def test_stops_no_later_recipient_of_the_event(self, told: Ground, sink: Sink, answer: int) -> None:
        async with receiving(lambda _key, _nth: answer) as broken:
            for name in ("ada", "bob", "eve"):
                await told.add_address(broken.url if name == "ada" else sink.url, name=name)
            await news(told, count=2)

            await told.work(until=IDLE, full=1, width=1)

        found = await rows(told.engine, SETTLED)
        assert {row.recipient for row in found if row.status == "delivered"} == {
            "operators.primary/bob",
            "operators.primary/eve",
        }
        assert [row.status for row in found].count("delivered") == 4
        assert len(sink.accepted) == 4

    async def test_whom_no_channel_reaches_stops_no_other(self, told: Ground, sink: Sink) -> None:
        only_text = definition(id="told", channels=("webhook",), events=("told.*",))
        async with ground(told.engine, told.url, told.vault, [only_text]) as narrow:
            await narrow.add_address("json://127.0.0.1:9/hook", name="ada", channel="apprise")
            await narrow.add_address(sink.url, name="bob")
            await news(narrow)

            await narrow.work(until=IDLE)

        found = {row.recipient: row.status for row in await rows(told.engine, SETTLED)}
        assert found == {"operators.primary/ada": "nobody", "operators.primary/bob": "delivered"}


class TestABadTemplate:
    async def test_stalls_neither_the_expansion_nor_other_definitions(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        await news(told, "both.news", count=3)
        await news(told, "told.news", count=3)

        await told.work(until=IDLE)

        found = await rows(told.engine, SETTLED)
        assert {row.status for row in found if row.definition == "told"} == {"delivered"}
        assert {row.status for row in found if row.definition == "spoilt"} == {"dead"}
        assert len(sink.accepted) == 6
        assert await rows(told.engine, "SELECT DISTINCT status FROM service_notification_requests") == [("expanded",)]

    async def test_is_dead_at_once_with_what_is_missing_where(self, told: Ground, sink: Sink) -> None:
        await told.add_address(sink.url)
        await news(told, "spoilt.news")

        await told.work(until=IDLE)

        (row,) = await rows(told.engine, "SELECT * FROM service_notification_dispatches")
        assert (row.status, row.attempts) == ("dead", 0)
        assert "spoilt.text" in row.error
        assert "is_not_there" in row.error
        assert told.started == []


class TestTrouble:
    @pytest.mark.parametrize("trouble", ["a broken channel", "a broken template", "no contact"])
    async def test_of_notifications_changes_nothing_else(self, told: Ground, trouble: str) -> None:
        if trouble != "no contact":
            await told.add_address(NOBODY_LISTENS)
        await news(told, "spoilt.news" if trouble == "a broken template" else "told.news", count=30)
        before = await core(told)

        await told.work(until=IDLE)
        await add_events(told.engine, 5, name="told.later", connections=5, first=50)
        await drained(told)

        after = await core(told)
        ended = {
            "a broken channel": {"retrying", "held"},
            "a broken template": {"dead"},
            "no contact": {"nobody"},
        }
        assert set(await told.statuses()) == ended[trouble]
        assert await statuses(told.engine) == {"delivered": 35}
        assert len(before["service_lifecycle_outbox"]) == 30
        assert {table: [row for row in after[table] if row in set(before[table])] for table in CORE} == before

    async def test_of_notifications_does_not_delay_the_outbox(self, told: Ground) -> None:
        """A receiver that never answers is waited for; the outbox is drained meanwhile."""
        arrived, answers = asyncio.Event(), asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            await answers.wait()
            writer.close()

        async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await told.add_address(f"http://127.0.0.1:{port}/hook")
            await news(told)
            sending = asyncio.create_task(told.work(until=IDLE))
            await asyncio.wait_for(arrived.wait(), 10)

            await add_events(told.engine, 50, name="told.later", connections=50, first=50)
            await drained(told)

            assert await statuses(told.engine) == {"delivered": 51}
            assert (await told.statuses())["processing"] == 1
            answers.set()
            await sending
