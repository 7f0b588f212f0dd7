"""The outbox as an operator looks at it, on a stack that drains meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import text

from integrations.db.outbox_status import page
from tests.outbox.events import add_events
from tests.starters.conftest import Runbook
from tests.starters.running import Running

BURNS = "SELECT count(*) FROM (SELECT generate_series(1, 10000000000)) AS numbers"
KILL = (
    "DELETE FROM service_activity_entries WHERE event_id = :id",
    """
    UPDATE service_projector_ledger SET status = 'dead', cause = 'Raise: it is refused', fingerprint = 'abc123',
      error = 'Raise: it is refused (7)', attempts = 12, failed_at = now(),
      history = jsonb_build_array(jsonb_build_object('at', now(), 'attempt', 1, 'error', 'the first'))
    WHERE event_id = :id AND projector = 'activity'
    """,
    "UPDATE service_lifecycle_outbox SET status = 'dead' WHERE event_id = :id",
)
ROOM = {"RUNBOOK_DATABASE_CORES": "1000"}
"""Whatever else this machine does at the moment."""


async def until_dealt(running: Running, dispatchers: int) -> None:
    """Each of so many owns what is its, and nobody else owns anything."""
    async with asyncio.timeout(60):
        while True:
            found = await page(running.platform.sessions)
            owning = [each.number for each in found.dispatchers if each.owner and each.fresh(found.at)]
            if found.wish == dispatchers and not found.unowned and owning == list(range(dispatchers)):
                return
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture(autouse=True)
async def _four(running: Running) -> AsyncIterator[None]:
    await until_dealt(running, 4)
    yield
    async with running.platform.sessions.begin() as session:
        await session.execute(text("DELETE FROM service_dispatch_scales"))
    await until_dealt(running, 4)


@pytest_asyncio.fixture
async def dead(running: Running) -> AsyncIterator[UUID]:
    """An event that one projector gave up, and the other projected."""
    async with running.platform.sessions() as session:
        engine: Any = session.bind
    [event_id] = await add_events(engine, name="poison", first=77)
    async with asyncio.timeout(20):
        while (await page(running.platform.sessions)).pending:
            await asyncio.sleep(0.05)
    async with running.platform.sessions.begin() as session:
        for sql in KILL:
            await session.execute(text(sql), {"id": event_id})
    yield event_id
    tables = ("notification_requests", "activity_entries", "projector_ledger", "lifecycle_outbox")
    async with running.platform.sessions.begin() as session:
        for table in tables:
            await session.execute(text(f"DELETE FROM service_{table} WHERE event_id = :id"), {"id": event_id})


@asynccontextmanager
async def burning(running: Running, sessions: int) -> AsyncIterator[None]:
    url = running.stack.settings.sqlalchemy_url.replace("+asyncpg", "")
    connections = [await asyncpg.connect(url) for _ in range(sessions)]
    tasks = [asyncio.create_task(connection.execute(BURNS)) for connection in connections]
    await asyncio.sleep(0.05)
    yield
    async with running.platform.sessions.begin() as session:
        for connection in connections:
            await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": connection.get_server_pid()})
    await asyncio.gather(*tasks, return_exceptions=True)


async def kept(running: Running) -> list[tuple[int, str, str]]:
    async with running.platform.sessions.begin() as session:
        found = await session.execute(text("SELECT dispatchers, by, reason FROM service_dispatch_scales"))
        return [(row.dispatchers, row.by, row.reason) for row in found]


class TestTheStatus:
    async def test_shows_who_drains_by_their_locks_and_their_workflows(self, runbook: Runbook) -> None:
        told = runbook("outbox", "status", "--json")

        assert (told.code, told.err) == (0, "")
        dispatchers = told.json["dispatchers"]
        assert [each["owner"]["parts"] for each in dispatchers] == [
            [number, number + 4, number + 8, number + 12] for number in range(4)
        ]
        assert {(each["workflow"]["state"], each["workflow"]["attempt"]) for each in dispatchers} == {("running", 1)}
        assert (told.json["unowned"], told.json["note"], told.json["reconciled"]) == ([], "", True)

    async def test_works_without_temporal_and_says_so(self, runbook: Runbook) -> None:
        ran = runbook("outbox", "status", TEMPORAL_ADDRESS="127.0.0.1:9")

        assert (ran.code, ran.err) == (0, "")
        assert "without Temporal's word: Temporal does not answer at 127.0.0.1:9" in ran.out
        assert "Fine." in ran.out
        assert len(ran.out.splitlines()) < 25

    async def test_leads_from_the_first_look_to_the_replay_of_what_is_dead(self, runbook: Runbook, dead: UUID) -> None:
        """Nothing is typed that was not printed before."""
        look = runbook("status")
        [first] = look.printed_commands
        groups = runbook(*first)
        [plan] = groups.printed_commands
        told = runbook("outbox", "status")
        items = runbook("outbox", "dead", "--cause", plan[-1])

        assert (look.code, told.code, groups.code, items.code) == (1, 1, 0, 0)
        assert "activity: 1 dead" in look.out
        assert first == ["outbox", "dead"]
        assert first in told.printed_commands
        assert (plan, str(dead) in groups.out) == (["outbox", "plan", "--cause", "abc123"], True)
        assert "Raise: it is refused (7)" in items.out
        assert "the first" in items.out

    async def test_names_a_projection_that_is_gone_and_its_event(
        self, runbook: Runbook, running: Running, dead: UUID
    ) -> None:
        async with running.platform.sessions.begin() as session:
            sql = "UPDATE service_projector_ledger SET status = 'delivered' WHERE event_id = :id"
            await session.execute(text(sql), {"id": dead})

        look = runbook("outbox", "status")
        [lead] = look.printed_commands
        found = runbook(*lead)

        assert (look.code, found.code) == (1, 1)
        assert lead == ["outbox", "status", "--differences"]
        assert f"{dead}  delivered, and not in service_activity_entries" in found.out


class TestTheDead:
    async def test_are_none_and_that_is_said(self, runbook: Runbook) -> None:
        ran = runbook("outbox", "dead")

        assert (ran.code, ran.out) == (0, "Nothing is dead.\n")


class TestScaling:
    @pytest.mark.parametrize("number", ["0", "17"])
    def test_beyond_the_partitions_is_wrong_usage(self, runbook: Runbook, number: str) -> None:
        ran = runbook("outbox", "scale", number)

        assert (ran.code, ran.out) == (2, "")
        assert "there are 16 partitions" in ran.err

    @pytest.mark.chaos
    async def test_down_and_up_deals_the_partitions_anew(self, runbook: Runbook, running: Running) -> None:
        down = runbook("outbox", "scale", "2", "--by", "ada", "--reason", "quiet")
        await until_dealt(running, 2)
        up = runbook("outbox", "scale", "5", "--by", "bob", "--reason", "monday", **ROOM)
        await until_dealt(running, 5)
        same = runbook("outbox", "scale", "5", "--by", "eve")

        assert (down.code, up.code, same.code) == (0, 0, 0)
        assert "2 dispatchers in place of 4." in down.out
        assert "1           1, 3, 5, 7, 9, 11, 13, 15" in down.out
        assert "Looking at the database" not in down.err + same.err
        assert "Looking at the database for 2 s." in up.err
        assert "5 dispatchers, as before." in same.out
        assert await kept(running) == [(5, "bob", "monday")]

    @pytest.mark.chaos
    async def test_up_is_refused_when_the_database_is_saturated_and_may_be_insisted_on(
        self, runbook: Runbook, running: Running
    ) -> None:
        async with burning(running, 3):
            refused = runbook("outbox", "scale", "6", RUNBOOK_DATABASE_CORES="2")
            before = await kept(running)
            [insist] = refused.printed_commands
            done = runbook(*insist, "--by", "ada", "--reason", "I know", RUNBOOK_DATABASE_CORES="2")

        assert (refused.code, refused.out, before) == (1, "", [])
        assert "sessions worked on its 2 cores over 2." in refused.err
        assert (insist, done.code) == (["outbox", "scale", "6", "--anyway"], 0)
        [(number, by, reason)] = await kept(running)
        assert (number, by) == (6, "ada")
        assert reason.startswith("I know (although the database is saturated: ")

    @pytest.mark.chaos
    async def test_without_temporal_keeps_the_wish_and_leaves_the_start_to_reconcile(
        self, runbook: Runbook, running: Running
    ) -> None:
        own = await rebound(running, "127.0.0.1:9")
        ran = runbook("outbox", "scale", "3", "--by", "ada", TEMPORAL_ADDRESS="127.0.0.1:9")
        await rebound(running, own)

        assert ran.code == 3
        assert "the wish is kept" in ran.err
        assert [number for number, *_ in await kept(running)] == [3]


async def rebound(running: Running, address: str) -> str:
    """The database belongs to another Temporal. The one before."""
    async with running.platform.sessions.begin() as session:
        before = (await session.execute(text("SELECT temporal_address FROM service_deployment"))).scalar_one()
        await session.execute(text("UPDATE service_deployment SET temporal_address = :a"), {"a": address})
    return str(before)
