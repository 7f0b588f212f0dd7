"""What is sent when, what is not sent any more, and what goes on after a hold."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db.outbox import enqueue
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.domain.quiet_hours import QuietHours
from tests.factories import add_connection, add_invitation
from tests.notification.ground import IDLE, Ground, definition, ground
from tests.notification.sink import Sink, receiving
from tests.outbox.events import add_events, rows

SETTLED = "SELECT status, cause, error FROM service_notification_dispatches ORDER BY position"


@pytest_asyncio.fixture
async def sink() -> AsyncIterator[Sink]:
    async with receiving() as made:
        yield made


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault, sink: Sink) -> AsyncIterator[Ground]:
    """What is told, to the owner and to operators, leads to the sink."""
    known = [
        definition(superseded_by=("told.*", "undone.*"), events=("told.*",)),
        definition(id="morning", events=("morning.*",), audience="owner", in_the_morning=True),
        definition(id="on_call", events=("night.*",), in_the_morning=True),
        definition(id="invitation", events=("asked.*",), text="{{ link }}"),
    ]
    async with ground(engine, database_url, vault, known) as made:
        for audience in ("operators.primary", "org:acme"):
            await made.add_address(sink.url, audience)
        yield made


async def news(told: Ground, *names: str, **changes: Any) -> None:
    """Events of one connection, one after the other, that wait to be told."""
    for name in names:
        await add_events(told.engine, 1, name=name, **changes)
    await told.request()


async def settled(told: Ground) -> list[tuple[str, str | None]]:
    return [(row.status, row.error) for row in await rows(told.engine, SETTLED)]


class TestTheMorning:
    @pytest_asyncio.fixture(autouse=True)
    async def night(self, told: Ground) -> int:
        """It is night at acme now, and for two hours at the most. The hour at which it ends."""
        hour = datetime.now(UTC).hour
        sql = "INSERT INTO service_contacts (scope_type, scope_id, zone, quiet_starts, quiet_ends, changed_by) "
        sql += "VALUES ('org', 'acme', 'UTC', :starts, :ends, 'the test') RETURNING 1"
        await rows(told.engine, sql, starts=hour, ends=(hour + 2) % 24)
        return (hour + 2) % 24

    async def test_is_waited_for_by_what_can_wait(self, told: Ground, sink: Sink, night: int) -> None:
        await news(told, "morning.news", "told.news")

        await told.work(until="SELECT EXISTS (SELECT FROM service_notification_dispatches WHERE status = 'delivered')")

        (waits,) = await rows(told.engine, "SELECT * FROM service_notification_dispatches WHERE status = 'pending'")
        assert (waits.definition, waits.due_at.hour, waits.due_at.minute) == ("morning", night, 0)
        assert len(sink.accepted) == 1

    async def test_is_when_it_is_told(self, told: Ground, sink: Sink) -> None:
        await news(told, "morning.news")
        await told.work(until="SELECT EXISTS (SELECT FROM service_notification_dispatches)")
        await rows(told.engine, "UPDATE service_notification_dispatches SET due_at = now() RETURNING 1")

        await told.work(until=IDLE)

        assert await told.statuses() == {"delivered": 1}

    async def test_is_no_matter_to_operators(self, told: Ground, night: int) -> None:
        told.rules = replace(told.rules, quiet=QuietHours(starts=(night - 2) % 24, ends=night))
        await news(told, "night.news")

        await told.work(until=IDLE)

        assert await told.statuses() == {"delivered": 1}

    async def test_is_not_waited_for_by_what_is_old_by_then(self, told: Ground) -> None:
        await news(told, "morning.news", age=timedelta(days=3) - timedelta(minutes=30))

        await told.work(until=IDLE)

        assert await told.statuses() == {"delivered": 1}


class TestOldNews:
    @pytest.mark.parametrize(
        ("later", "why"),
        [
            ("told.more", "Old: collapsed into a later told.more"),
            ("undone.all", "Old: superseded by a later undone.all"),
        ],
    )
    async def test_of_which_something_later_is_told_is_dropped(
        self, told: Ground, sink: Sink, later: str, why: str
    ) -> None:
        await news(told, "told.news", later)

        await told.work(until=IDLE)

        assert (await settled(told))[0] == ("dropped", why)
        assert len(sink.accepted) == (later == "told.more")

    async def test_is_told_whatever_happens_later_to_another_connection(self, told: Ground, sink: Sink) -> None:
        await add_events(told.engine, 1, name="told.news")
        await add_events(told.engine, 2, name="told.news", first=1)
        await told.request()

        await told.work(until=IDLE)

        assert [status for status, _ in await settled(told)] == ["delivered", "dropped", "delivered"]

    async def test_that_is_news_no_more_is_dropped_with_the_moment(self, told: Ground, sink: Sink) -> None:
        await news(told, "told.news", age=timedelta(days=3, minutes=1))

        await told.work(until=IDLE)

        until = datetime.now(UTC) - timedelta(minutes=1)
        ((status, why),) = await settled(told)
        assert status == "dropped"
        assert why in {f"Old: it was news until {until - timedelta(minutes=m):%Y-%m-%d %H:%M} UTC" for m in range(2)}
        assert sink.arrivals == []


class TestAnInvitation:
    async def test_is_sent_with_its_link_which_nothing_keeps(self, told: Ground, sink: Sink, vault: Vault) -> None:
        session_id = await invited(told, vault)

        await told.work(until=IDLE)

        token = vault.link_token(session_id)
        assert f"https://runbook.example/reconsent/{token}".encode() in sink.bodies[0]
        kept = await rows(told.engine, "SELECT item::text FROM service_notification_dispatches AS item")
        assert token not in str(kept)

    @pytest.mark.parametrize("status", ["received", "exchanging", "replaced"])
    async def test_that_was_answered_or_replaced_is_dropped(
        self, told: Ground, sink: Sink, vault: Vault, status: str
    ) -> None:
        session_id = await invited(told, vault)
        sql = "UPDATE service_consent_sessions SET status = :status WHERE id = :id RETURNING 1"
        await rows(told.engine, sql, status=status, id=session_id)

        await told.work(until=IDLE)

        assert await settled(told) == [("dropped", "Old: its invitation was answered, replaced, or has expired")]
        assert sink.arrivals == []

    async def test_whose_time_is_over_is_dropped(self, told: Ground, sink: Sink, vault: Vault) -> None:
        session_id = await invited(told, vault)
        sql = "UPDATE service_consent_sessions SET expires_at = now() WHERE id = :id RETURNING 1"
        await rows(told.engine, sql, id=session_id)

        await told.work(until=IDLE)

        assert [status for status, _ in await settled(told)] == ["dropped"]

    async def test_that_is_dead_keeps_no_link(self, told: Ground, sink: Sink, vault: Vault) -> None:
        sink.answers = lambda _key, _nth: 410
        session_id = await invited(told, vault)

        await told.work(until=IDLE)

        (row,) = await rows(
            told.engine, "SELECT rendered, item::text AS all FROM service_notification_dispatches AS item"
        )
        assert row.rendered["text"].startswith("(the link")
        assert vault.link_token(session_id) not in row.all


async def invited(told: Ground, vault: Vault) -> UUID:
    """An invitation that waits for an answer, and an event that asks for it."""
    connection: Connection = await add_connection(told.sessions)
    row = await add_invitation(told.sessions, vault, connection, uuid4())
    async with told.sessions.begin() as session:
        await enqueue(session, connection.id, uuid4(), "asked.again", {"session_id": str(row.id)})
    await told.request()
    return row.id


class TestAHoldThatIsOver:
    async def test_lets_those_go_on_whose_address_was_replaced_meanwhile(self, told: Ground, sink: Sink) -> None:
        """The other origin is out still: nothing but the replaced address says that these may go on."""
        async with receiving(lambda _key, _nth: 503) as other:
            await told.add_address(other.url, "org:acme")
            sink.answers = lambda _key, _nth: 503
            await add_events(told.engine, 60, name="told.news", connections=60)
            await add_events(told.engine, 60, name="morning.news", connections=60, first=60)
            await told.request()
            await told.work(until=IDLE)
            held = (await told.statuses())["held"]
            async with receiving() as fixed:
                await told.add_address(fixed.url, "operators.primary")
                over = "UPDATE service_ledger_holds SET released_at = now() WHERE order_key = :origin RETURNING 1"
                await rows(told.engine, over, origin=sink.url.split("/")[2])

                await told.work(until="SELECT count(*) = 1 FROM service_ledger_holds")
                await told.work(until=IDLE)

                still = (await told.statuses())["held"]
                assert len(fixed.accepted) == held - still
                assert 30 < still < 60
