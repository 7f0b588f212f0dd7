"""Deliveries that come in at the same time are written by one statement. Each is answered as if it were alone."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import webhook_ingress
from integrations.db.session import Sessions
from integrations.db.webhook_ingress import Deliveries, Delivery, opened
from integrations.db.webhook_tables import WebhookRepeat
from integrations.domain.webhook import Reaction, part_of
from tests.factories import every
from tests.outbox.events import rows
from tests.webhook.given import sent


async def all_recorded(ingress: Deliveries, *deliveries: Delivery) -> list[Any]:
    return await asyncio.gather(*(ingress.record(each) for each in deliveries), return_exceptions=True)


async def ids(engine: AsyncEngine) -> list[str]:
    found = await rows(engine, "SELECT delivery_id FROM service_webhook_deliveries ORDER BY position")
    return [row.delivery_id for row in found]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many deliveries each had."""
    sizes: list[int] = []
    insert = Deliveries._insert_all

    async def counted(self: Deliveries, given: Any) -> Any:
        sizes.append(len(given))
        return await insert(self, given)

    monkeypatch.setattr(Deliveries, "_insert_all", counted)
    return sizes


async def test_they_are_in_the_order_in_which_they_came(
    engine: AsyncEngine, statements: list[int], database_url: str
) -> None:
    """The last change of a resource is the last one of these, whatever it is called."""
    names = [f"d{number}" for number in range(50, 0, -1)]

    async with opened(database_url) as ingress:
        assert await all_recorded(ingress, *(sent(name, resource="contact:1") for name in names)) == [True] * 50

    assert statements == [50]
    assert await ids(engine) == names


async def test_one_that_comes_twice_among_them_is_new_once(
    engine: AsyncEngine, sessions: Sessions, ingress: Deliveries
) -> None:
    answers = await all_recorded(ingress, sent("a"), sent("b"), sent("a"), sent("a"), sent("b"))

    assert sorted(answers) == [False, False, False, True, True]
    assert sorted(await ids(engine)) == ["a", "b"]
    assert len(await every(sessions, WebhookRepeat)) == 3


async def test_the_first_of_those_that_are_the_same_is_the_one_that_stays(
    engine: AsyncEngine, database_url: str, statements: list[int]
) -> None:
    """Its place is before that of what came after it."""
    names = [f"d{number}" for number in range(50)]
    both = [sent(name, resource="contact:1", event=event) for event in ("first", "again") for name in names]

    async with opened(database_url) as ingress:
        assert await all_recorded(ingress, *both) == [True] * 50 + [False] * 50

    assert statements == [100]
    assert await ids(engine) == names
    assert await rows(engine, "SELECT DISTINCT event FROM service_webhook_deliveries") == [("first",)]


async def test_one_that_somebody_changes_at_this_moment_keeps_nobody_waiting(
    engine: AsyncEngine, sessions: Sessions, ingress: Deliveries
) -> None:
    """A dispatcher has folded it, or a replay woken it, and not committed yet: a duplicate is one all the same."""
    known = [sent(f"known-{number}") for number in range(8)]
    await all_recorded(ingress, *known)

    async with engine.begin() as connection:
        await connection.execute(text("UPDATE service_webhook_deliveries SET history = history"))
        async with asyncio.timeout(1.5):
            answers = await all_recorded(ingress, *known, *(sent(f"new-{number}") for number in range(8)))

    assert answers == [False] * 8 + [True] * 8
    assert len(await every(sessions, WebhookRepeat)) == 8


async def test_what_is_about_one_resource_waits_for_what_came_before_and_nothing_else_does(
    engine: AsyncEngine, ingress: Deliveries
) -> None:
    resources = [f"contact:{number}" for number in range(20)]
    lanes = [part_of("github", "app", "", resource) % webhook_ingress._LANES for resource in resources]
    mine, other = resources[lanes.index(0)], resources[lanes.index(1)]
    async with engine.connect() as connection:
        # Somebody is about to write the first, and has not decided yet.
        begun = await connection.begin()
        values = "gen_random_uuid(), 'github', 'app', 'first', 'id', 'event', '{}', '', 0"
        columns = "id, provider_id, channel, delivery_id, identity, reaction, headers, body, part"
        await connection.execute(text(f"INSERT INTO service_webhook_deliveries ({columns}) VALUES ({values})"))
        first = asyncio.create_task(ingress.record(sent("first", resource=mine)))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(ingress.record(sent("second", resource=mine)))

        assert await ingress.record(sent("another", resource=other))
        assert [first.done(), second.done()] == [False, False]
        await begun.rollback()

    assert await asyncio.gather(first, second) == [True, True]
    assert [name for name in await ids(engine) if name != "another"] == ["first", "second"]


async def test_each_is_written_as_it_would_be_alone(
    engine: AsyncEngine, database_url: str, statements: list[int]
) -> None:
    told = [
        replace(sent("a"), body=b"\x00\xff", headers='{"x-a": "1"}', account="1"),
        replace(sent("b"), event="pull_request", notices=((Reaction.EVENT, "pull_request", "1"),)),
    ]
    async with opened(database_url) as ingress:
        await all_recorded(ingress, *told)
        [await ingress.record(replace(each, delivery_id=f"{each.delivery_id} alone")) for each in told]

    assert statements == [2, 1, 1]
    kept = await rows(
        engine,
        "SELECT split_part(delivery_id, ' ', 1), event, account, headers, body, notices, status, due_at = received_at "
        "FROM service_webhook_deliveries ORDER BY delivery_id",
    )
    assert kept[0] == kept[1] == ("a", "push", "1", {"x-a": "1"}, b"\x00\xff", None, "pending", True)
    assert kept[2] == kept[3]
    assert kept[2].notices == [["event", "pull_request", "1"]]


async def test_what_the_database_does_not_take_of_one_keeps_no_other_out(
    engine: AsyncEngine, ingress: Deliveries
) -> None:
    """The reading lets no such thing through. If it ever did, one sender would stop all the others."""
    bad = [
        replace(sent("nul"), event="\0"),
        replace(sent("json"), headers="{"),
        replace(sent("half"), account="\ud800"),
    ]

    async def refused(each: Delivery) -> bool:
        with pytest.raises(asyncpg.DataError):
            await ingress.record(each)
        return True

    good = (ingress.record(sent("a")), ingress.record(sent("b")))
    assert await asyncio.gather(*good, *(refused(each) for each in bad)) == [True] * 5

    assert sorted(await ids(engine)) == ["a", "b"]


async def test_two_processes_with_the_same_ones_never_wait_for_each_other(
    sessions: Sessions, database_url: str
) -> None:
    """One meets them forwards, the other backwards: without an order that is a deadlock, and a second of 503s."""
    async with opened(database_url) as here, opened(database_url) as there:
        for turn in range(20):
            same = [sent(f"{turn}-{number}") for number in range(100)]
            answers = await asyncio.gather(all_recorded(here, *same), all_recorded(there, *reversed(same)))
            assert Counter(map(str, answers[0] + answers[1])) == {"True": 100, "False": 100}

    assert len(await every(sessions, WebhookRepeat)) == 20 * 100


@asynccontextmanager
async def locked(database_url: str) -> AsyncIterator[None]:
    """As a migration would have it."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        await connection.execute("BEGIN; LOCK TABLE service_webhook_deliveries")
        yield
    finally:
        await connection.close()


async def test_one_that_is_given_up_in_the_middle_is_found_by_whoever_sends_it_again(
    engine: AsyncEngine, ingress: Deliveries, database_url: str
) -> None:
    async with locked(database_url):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await ingress.record(sent("a"))

    # Whichever of the two is first.
    await ingress.record(sent("a"))
    assert await ids(engine) == ["a"]


async def test_a_server_that_is_frozen_is_given_up(
    engine: AsyncEngine, ingress: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives nothing up, and answers no wish to cancel either: the next statement is another connection's."""
    await ingress.record(sent("before"))
    serving = "SELECT pid FROM pg_stat_activity WHERE application_name = 'runbook webhook ingress'"
    mine = await rows(engine, f"{serving} AND datname = current_database() ORDER BY backend_start DESC")
    os.kill(mine[0].pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            with monkeypatch.context() as impatient:
                impatient.setattr(webhook_ingress, "_PATIENCE", 0.3)
                with pytest.raises(TimeoutError):
                    await ingress.record(sent("before"))
            for name in ("a", "b", "c", "d"):
                assert await ingress.record(sent(name))
    finally:
        os.kill(mine[0].pid, signal.SIGCONT)
