"""The page of notifications, and what was given up, on rows of every kind."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import notification_dead, notification_status
from integrations.db.ledger_tables import Dispatcher, Hold
from integrations.db.notification_status import page
from integrations.db.notification_tables import NotificationDispatch
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.errors import StopError
from integrations.domain.notification import part_of
from integrations.domain.notification_page import ChannelLook
from tests.factories import add_address
from tests.notification.ground import IDLE, Ground, ground
from tests.notification.sink import receiving
from tests.outbox.events import add_events, rows

READ = ("OLDEST", "PENDING", "AMOUNTS", "CAUSES", "WAITING", "REQUESTED", "REQUESTS")


def ago(**time: float) -> datetime:
    return datetime.now(UTC) - timedelta(**time)


async def add(sessions: Sessions, status: str, channel: str = "email", **more: Any) -> UUID:
    """One dispatch of an event of its own."""
    given = {
        "id": uuid4(),
        "event_id": uuid4(),
        "definition": "told",
        "recipient": "org:acme",
        "channel": channel,
        "part": part_of(channel),
        "status": status,
        "expires_at": ago(days=-1),
    } | more
    async with sessions.begin() as session:
        session.add(NotificationDispatch(**given))
    found: UUID = given["id"]
    return found


async def seen(sessions: Sessions, channel: str = "email", unready: dict[str, str] | None = None) -> ChannelLook:
    found = await page(sessions, unready or {})
    return next(each for each in found.channels if each.channel == channel)


class TestThePage:
    async def test_of_nothing_says_that_nobody_is_reached(self, sessions: Sessions) -> None:
        found = await page(sessions, {})

        assert [each.channel for each in found.channels] == ["webhook", "email", "apprise"]
        assert (found.reaches_anybody, found.waiting_since, found.causes, found.out) == (False, None, [], [])
        assert not any(each.dispatcher.fresh(found.at) for each in found.channels)

    async def test_counts_each_state_by_channel(self, sessions: Sessions) -> None:
        for status in ("processing", "held", "held", "retrying", "delivered"):
            await add(sessions, status)
        await add(sessions, "pending", due_at=ago(minutes=7))
        await add(sessions, "pending", due_at=ago(minutes=9))
        await add(sessions, "pending", due_at=ago(hours=-3))
        await add(sessions, "pending", "webhook", due_at=ago(minutes=99))

        await add(sessions, "pending", "apprise", due_at=ago(hours=-3))

        found, morning = await seen(sessions), await seen(sessions, "apprise")

        assert (morning.pending, morning.later, morning.oldest) == (0, 1, None)
        assert (found.pending, found.later, found.on_the_way, found.held, found.retrying) == (2, 1, 1, 2, 1)
        assert found.oldest is not None
        assert timedelta(minutes=9) <= datetime.now(UTC) - found.oldest < timedelta(minutes=10)

    async def test_tells_how_what_is_dead_grows(self, sessions: Sessions) -> None:
        for hours in (0.1, 0.2, 1.5, 30):
            await add(sessions, "dead", settled_at=ago(hours=hours), cause="x", fingerprint="f")
        await add(sessions, "nobody", settled_at=ago(hours=50))
        await add(sessions, "nobody", "", created_at=ago(hours=51))

        found, whole = await seen(sessions), await page(sessions, {})

        assert (found.dead, found.dead_last_hour, found.dead_hour_before) == (4, 2, 1)
        assert found.dead_since is not None
        assert datetime.now(UTC) - found.dead_since > timedelta(hours=29)
        assert whole.nobody == 2
        assert whole.nobody_since is not None
        assert datetime.now(UTC) - whole.nobody_since > timedelta(hours=50)

    async def test_tells_apart_why_something_was_dropped_in_the_last_hour(self, sessions: Sessions) -> None:
        for cause, hours in (("Old: …", 0.5), ("Old: …", 2), ("Failover: …", 0.5), ("Reached", 0.5)):
            await add(sessions, "dropped", cause=cause, settled_at=ago(hours=hours))

        found = await seen(sessions)

        assert (found.dropped_last_hour, found.failed_over_last_hour) == (1, 1)

    async def test_groups_by_channel_and_cause_with_the_next_command(self, sessions: Sessions) -> None:
        for channel in ("email", "email", "webhook"):
            await add(sessions, "dead", channel, cause="SMTP 550", fingerprint="aaa", settled_at=ago(hours=1))
        await add(sessions, "retrying", cause="SMTP 451", fingerprint="bbb", failed_at=ago(hours=1))
        for number in range(12):
            await add(sessions, "dead", "apprise", cause=f"c{number}", fingerprint=f"f{number}")

        causes = (await page(sessions, {})).causes
        assert causes is not None
        told = [(each.status, each.channel, each.count, each.next) for each in causes]

        assert len(told) == 10
        assert told[0] == ("dead", "email", 2, "runbook notifications plan --cause aaa")
        assert [each.count for each in causes[1:]] == [1] * 9

    async def test_shows_what_is_retried_as_something_to_look_at(self, sessions: Sessions) -> None:
        await add(sessions, "retrying", cause="SMTP 451", fingerprint="bbb", failed_at=ago(hours=1))

        [cause] = (await page(sessions, {})).causes or []

        assert cause.next == "runbook notifications dead --retrying --cause bbb"

    async def test_shows_an_origin_that_is_out_and_what_waits_there(self, sessions: Sessions, vault: Vault) -> None:
        await add_address(sessions, vault, "org:acme", origin="mail.acme.example:25")
        await add_address(sessions, vault, "org:other", origin="mail.other.example:25")
        async with sessions.begin() as session:
            ids = dict((await session.execute(text("SELECT audience, id FROM service_contact_addresses"))).all())
        tries = await add(sessions, "retrying", cause="SMTP 451: …", address_id=ids["org:acme"])
        for audience in ("org:acme", "org:acme", "org:other"):
            await add(sessions, "held", address_id=ids[audience])
        hold = {"ledger": "notifications", "part": 1, "destination": "email", "item_id": tries}
        async with sessions.begin() as session:
            session.add(Hold(order_key="mail.acme.example:25", since=ago(minutes=3), **hold))
            session.add(Hold(order_key="mail.gone.example:25", released_at=ago(), **hold))
            session.add(Hold(order_key="k", **(hold | {"ledger": "outbox"})))

        found = await page(sessions, {})
        [out] = found.out

        assert (out.channel, out.origin, out.waiting, out.cause) == ("email", "mail.acme.example:25", 2, "SMTP 451: …")
        assert out.workflow_id == f"notification:told:{tries}"
        assert found.channels[1].addresses == 2

    async def test_has_the_requests_that_are_not_expanded(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await add_events(engine, 4)
        await rows(
            engine,
            "INSERT INTO service_notification_requests (event_id, name, order_key, seq, status, requested_at) "
            "SELECT event_id, name, order_key, seq, CASE WHEN id = 1 THEN 'expanded' ELSE 'pending' END, "
            "now() - interval '10 minutes' FROM service_lifecycle_outbox ORDER BY id RETURNING 1",
        )

        found = await page(sessions, {})

        assert found.requests == 3
        assert found.requested is not None
        assert found.waiting_since == found.requested

    async def test_has_each_channels_dispatcher_and_what_it_lacks(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            session.add(
                Dispatcher(
                    ledger="notifications",
                    number=1,
                    worker="w",
                    parts=[1],
                    running=True,
                    batch=100,
                    started_at=ago(hours=1),
                    seen_at=ago(seconds=2),
                    last_error="Postgres: no",
                    last_error_at=ago(minutes=9),
                )
            )

        found = await seen(sessions, unready={"email": "RUNBOOK_SMTP_URL is not set"})

        assert (found.dispatcher.number, found.dispatcher.last_error) == (1, "Postgres: no")
        assert found.dispatcher.fresh(datetime.now(UTC))
        assert found.unready == "RUNBOOK_SMTP_URL is not set"

    async def test_counts_what_was_sent_and_who_is_out_as_the_dispatchers_leave_it(self, told: Ground) -> None:
        async with receiving() as good, receiving(lambda _key, _nth: 503) as bad:
            await told.add_address(good.url)
            await told.add_address(bad.url, name="eve")
            await add_events(told.engine, 40, name="told.news", connections=40)
            await told.request()
            await told.work(until=IDLE)

            found = await page(told.sessions, {})

        webhook = found.channels[0]
        assert (webhook.sent, webhook.retrying, webhook.pending) == (40, len(told.started), 0)
        assert (webhook.held, webhook.retrying) != (0, 0)
        [out] = found.out
        assert (out.waiting, f"http://{out.origin}/hook") == (webhook.held, bad.url)
        assert out.workflow_id in {left.key for left in told.started if left.whole}

    async def test_reads_nothing_of_what_is_delivered(self, engine: AsyncEngine) -> None:
        """By the plans, with a hundred thousand of these and a few of each other kind."""
        await rows(
            engine,
            """
            INSERT INTO service_notification_dispatches
              (id, event_id, definition, recipient, channel, part, expires_at, status, settled_at)
            SELECT gen_random_uuid(), gen_random_uuid(), 'told', 'org:acme', 'email', 1, now(),
              CASE WHEN i % 10000 = 0
                THEN (ARRAY['pending', 'held', 'processing', 'retrying', 'dead', 'nobody', 'dropped'])[i / 10000]
                ELSE 'delivered' END, now() FROM generate_series(1, 100000) AS i RETURNING 1
            """.replace("i / 10000]", "i / 10000 % 7 + 1]"),
        )
        await rows(
            engine,
            "INSERT INTO service_notification_requests (event_id, name, order_key, seq, status) "
            "SELECT gen_random_uuid(), 'x', 'k', i, 'expanded' FROM generate_series(1, 20000) AS i RETURNING 1",
        )
        async with engine.begin() as connection:
            await connection.execute(text("ANALYZE service_notification_dispatches, service_notification_requests"))
        statements = {name: getattr(notification_status, name).text for name in READ}
        statements |= {f"dead {key}": each.text for key, each in notification_dead._GROUPS.items()}
        statements |= {
            f"items {key}": each.text.replace(":cause", "'x'") for key, each in notification_dead._ITEMS.items()
        }

        for name, statement in statements.items():
            plan = "\n".join(row[0] for row in await rows(engine, f"EXPLAIN {statement.replace(':', chr(92) + ':')}"))
            assert "Seq Scan on service_notification" not in plan, f"{name}: {plan}"


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Ground]:
    async with ground(engine, database_url, vault) as made:
        yield made


async def die(told: Ground, count: int = 2) -> None:
    async with receiving(lambda _key, _nth: 410) as sink:
        await told.add_address(sink.url)
        await add_events(told.engine, count, name="told.news", connections=count)
        await told.request()
        await told.work(until=IDLE)


class TestTheDead:
    async def test_are_grouped_with_those_that_reached_nobody(self, told: Ground) -> None:
        await add_events(told.engine, 3, name="told.news", first=50)
        await told.request()
        await told.work(until=IDLE)
        await die(told)

        async with told.sessions.begin() as session:
            nobody, dead = await notification_dead.groups(session)
            retrying = await notification_dead.groups(session, retrying=True)

        assert (nobody.status, nobody.count, nobody.channels, nobody.recipient) == ("nobody", 3, [], "")
        assert "runbook contacts add operators.primary" in nobody.error
        assert (dead.status, dead.count, dead.channels) == ("dead", 2, ["webhook"])
        assert (dead.definitions, dead.recipient) == (["told"], "operators.primary")
        assert dead.error.startswith("HTTP 410: ")
        assert (dead.oldest is not None, retrying) == (True, [])

    async def test_are_listed_by_fingerprint_or_by_how_their_cause_begins(self, told: Ground) -> None:
        await die(told)
        async with told.sessions.begin() as session:
            [group] = await notification_dead.groups(session)
            items, total = await notification_dead.items(session, group.fingerprint)
            begins = await notification_dead.items(session, "HTTP 4")
            nothing = await notification_dead.items(session, "%")

        assert (total, begins[1], nothing) == (2, 2, ([], 0))
        assert items[0].rendered is not None
        assert items[0].rendered["subject"] == "told.news"
        assert [entry["attempt"] for entry in items[0].history] == [1]

    async def test_are_found_one_by_one(self, told: Ground) -> None:
        await die(told, 1)
        async with told.sessions.begin() as session:
            [item], _ = await notification_dead.items(session, "HTTP")
            assert await notification_dead.one(session, item.id) == item
            assert await notification_dead.of_event(session, item.event_id) == [item]
            with pytest.raises(StopError, match=r"there is no dispatch .*: `runbook notifications dead`"):
                await notification_dead.one(session, item.event_id)
