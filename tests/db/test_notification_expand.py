"""Requests become dispatches, each once, whoever expands them and whatever ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import notification_expand as expansion
from integrations.db.dedicated import dedicated
from integrations.db.vault import Vault
from integrations.domain.notification import Mode
from tests.notification.ground import IDLE, Ground, definition, ground
from tests.notification.sink import receiving
from tests.outbox.events import add_events, refused, rows

DISPATCHES = "SELECT event_id, definition, recipient, channel, status FROM service_notification_dispatches"
REQUESTS = "SELECT status, count(*) FROM service_notification_requests GROUP BY 1"


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Ground]:
    everyone = definition(id="all", mode=Mode.ALL, events=("told.*",))
    async with ground(engine, database_url, vault, [definition(), everyone]) as made:
        await made.add_address("https://one.example/hook")
        await made.add_address("https://two.example/hook", name="ada")
        await made.add_address("json://three.example/hook", name="ada", channel="apprise")
        yield made


def ended_when_settled(engine: AsyncEngine) -> AbstractAsyncContextManager[None]:
    """A database that ends the session of whoever settles a request: dispatches were written, and not committed."""
    ends = "PERFORM pg_terminate_backend(pg_backend_pid())"
    return refused(engine, "true", table="service_notification_requests", does=ends, on="UPDATE")


async def expanded(told: Ground, limit: int) -> int:
    """All that is pending, by a dispatcher of its own."""
    count = 0
    async with dedicated(told.url, "test") as connection:
        while taken := await expansion.expand(connection, told.rules, limit):
            count += taken
            await asyncio.sleep(0)
    return count


class TestAnExpansion:
    async def test_makes_each_dispatch_once_whoever_is_at_it(self, told: Ground) -> None:
        await add_events(told.engine, 200, name="told.news", connections=200)
        await told.request()

        taken = await asyncio.gather(expanded(told, 7), expanded(told, 7), expanded(told, 11))

        found = await rows(told.engine, DISPATCHES)
        assert sum(taken) == 200
        assert len([count for count in taken if count]) > 1
        # By failover: the mailbox without a name, and Ada's first channel. To all: her second one too.
        assert len(found) == len(set(found)) == 200 * 5
        assert await rows(told.engine, REQUESTS) == [("expanded", 200)]

    async def test_that_is_ended_between_its_statements_did_nothing(self, told: Ground) -> None:
        await add_events(told.engine, 3, name="told.news", connections=3)
        await told.request()

        async with ended_when_settled(told.engine):
            with pytest.raises(DBAPIError):
                await expanded(told, 10)
        after = await rows(told.engine, DISPATCHES)

        assert after == []
        assert await rows(told.engine, REQUESTS) == [("pending", 3)]
        assert await expanded(told, 10) == 3
        assert len(await rows(told.engine, DISPATCHES)) == 15

    async def test_of_what_was_expanded_before_leaves_it_as_it_is(self, told: Ground) -> None:
        await add_events(told.engine, 1, name="told.news")
        await told.request()
        await expanded(told, 10)
        await rows(told.engine, "UPDATE service_notification_dispatches SET status = 'delivered' RETURNING 1")
        await rows(told.engine, "UPDATE service_notification_requests SET status = 'pending' RETURNING 1")

        await expanded(told, 10)

        assert await told.statuses() == {"delivered": 5}
        assert await rows(told.engine, REQUESTS) == [("expanded", 1)]

    async def test_makes_nothing_of_what_no_definition_is_about(self, told: Ground) -> None:
        await add_events(told.engine, 2, name="untold.news", connections=2)
        await told.request()

        assert await expanded(told, 10) == 2

        assert await told.statuses() == {}
        assert await rows(told.engine, REQUESTS) == [("expanded", 2)]


class TestWhoIsTold:
    async def test_is_everybody_by_their_first_channel(self, told: Ground) -> None:
        await add_events(told.engine, 1, name="told.news")
        await told.request()
        await expanded(told, 10)

        found = await rows(told.engine, f"{DISPATCHES} WHERE definition = 'told' ORDER BY recipient")

        assert [(row.recipient, row.channel) for row in found] == [
            ("operators.primary", "webhook"),
            ("operators.primary/ada", "webhook"),
        ]

    async def test_is_everybody_by_each_of_their_channels_where_a_definition_says_so(self, told: Ground) -> None:
        await add_events(told.engine, 1, name="told.news")
        await told.request()
        await expanded(told, 10)

        found = await rows(told.engine, f"{DISPATCHES} WHERE definition = 'all' ORDER BY recipient, channel")

        assert [(row.recipient, row.channel) for row in found] == [
            ("operators.primary", "webhook"),
            ("operators.primary/ada", "apprise"),
            ("operators.primary/ada", "webhook"),
        ]

    async def test_by_two_channels_is_reached_by_the_one_that_works(
        self, engine: AsyncEngine, database_url: str, vault: Vault
    ) -> None:
        definitions = [definition(mode=Mode.ALL)]
        async with receiving() as works, ground(engine, database_url, vault, definitions) as told:
            await told.add_address(works.url)
            await told.add_address("json://127.0.0.1:9/hook", channel="apprise")  # nobody listens there
            await add_events(engine, 1, name="told.news")
            await told.request()

            await told.work("apprise", until=f"SELECT EXISTS ({DISPATCHES} WHERE status = 'retrying')")
            await told.work(until=IDLE)

            found = await rows(engine, f"{DISPATCHES} ORDER BY channel")
        assert [(row.channel, row.status) for row in found] == [("apprise", "retrying"), ("webhook", "delivered")]
        assert len(works.accepted) == 1
