"""A replay as an operator runs it, on a stack whose dispatchers do it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.domain.errors import WrongUsageError
from integrations.domain.filters import Filters
from starters.filters import filters_of
from tests.outbox.events import refused
from tests.outbox.plans import add_dead
from tests.starters.conftest import UNKNOWN, Runbook
from tests.starters.running import Running

TABLES = ("notification_requests", "activity_entries", "projector_ledger", "lifecycle_outbox")
FAST = ("--rate", "100000/s", "--yes")


@pytest.fixture
def engine(running: Running) -> AsyncEngine:
    engine: Any = running.platform.sessions.kw["bind"]
    return engine


@pytest_asyncio.fixture(autouse=True)
async def _gone_afterwards(running: Running) -> AsyncIterator[None]:
    """The stack is not in trouble for the next test."""
    yield
    async with running.platform.sessions.begin() as session:
        ours = "(SELECT event_id FROM service_lifecycle_outbox WHERE name IN ('poison', 'connection.tested'))"
        for table in TABLES:
            await session.execute(text(f"DELETE FROM service_{table} WHERE event_id IN {ours}"))
        await session.execute(text("DELETE FROM service_replay_items"))
        await session.execute(text("DELETE FROM service_replay_plans"))


async def add(engine: AsyncEngine, count: int = 15, **more: Any) -> list[UUID]:
    return await add_dead(engine, count, part=7, first=5000, **more)


async def edit(engine: AsyncEngine, sql: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(sql))


def planned(runbook: Runbook, *words: str) -> str:
    return str(runbook("outbox", "plan", "--json", *words).json["plan"])


class TestAPlan:
    async def test_says_what_it_is_of_and_the_command_that_runs_it(self, runbook: Runbook, engine: AsyncEngine) -> None:
        await add(engine)

        shown, told = runbook("outbox", "plan"), runbook("outbox", "plan", "--json", "--rate", "10/s")

        assert (shown.code, told.code) == (0, 0)
        assert shown.err.startswith("Target: ")
        for words in (
            "30  Raise: the table is full",
            "30  under an hour",
            "30  simulator",
            "a replay of it is a no-op",
        ):
            assert words in shown.out
        assert "runbook outbox replay " in shown.out
        assert (told.json["count"], told.json["seconds"]) == (30, 3)
        assert told.json["run"] == f"runbook outbox replay {told.json['plan']} --rate 10/s"

    async def test_of_what_cannot_be_meant_is_answered_in_words(self, runbook: Runbook) -> None:
        for words, code, answer in (
            (("--tenant", "org:nobody"), 1, "nothing matches --status dead --tenant org:nobody: no plan was made"),
            (("--since", "1h", "--until", "2h"), 2, "is not before --until"),
        ):
            ran = runbook("outbox", "plan", *words)

            assert (ran.code, ran.out) == (code, ""), words
            assert answer in ran.err, words

    def test_reads_times_as_people_write_them_and_refuses_the_rest(self) -> None:
        def filters(status: str = "dead", since: str = "", tenant: str = "", limit: int | None = None) -> Filters:
            return filters_of(status=[status], since=since, tenant=tenant, limit=limit)

        assert (filters(since="2026-11-25T12:00:00+01:00")).since == datetime(2026, 11, 25, 11, tzinfo=UTC)
        since = filters(since="2h").since
        assert since is not None
        assert timedelta(hours=2) <= datetime.now(UTC) - since < timedelta(hours=2, minutes=1)
        for wanted, answer in (
            ({"since": "yesterday"}, "'yesterday' is no time"),
            ({"status": "pending"}, "pending items drain by themselves"),
            ({"status": "gone"}, "'gone' is no status: dead, retrying, held or delivered"),
            ({"tenant": "acme"}, "'acme' is not an owner"),
        ):
            with pytest.raises(WrongUsageError, match=answer):
                filters(**wanted)


@pytest.mark.chaos
class TestAReplay:
    async def test_delivers_and_adds_up_and_run_again_says_how_it_ended(
        self, runbook: Runbook, engine: AsyncEngine
    ) -> None:
        await add(engine)
        plan = planned(runbook)

        ran = runbook("outbox", "replay", plan, *FAST)
        again = runbook("outbox", "replay", plan, "--json")
        listed = runbook("replays", "list", "--json")

        assert (ran.code, ran.out) == (0, "done: 30 delivered, 0 skipped, 0 dead again of 30\n")
        assert (again.code, again.json["delivered"], again.json["untouched"]) == (0, 30, 0)
        assert "It was run before" in again.err
        assert [(entry["plan"], entry["status"]) for entry in listed.json] == [(plan, "done")]
        paused = runbook("replays", "pause", plan)
        assert paused.code == 1
        assert f"plan {plan} does not run: it is done" in paused.err

    async def test_of_filters_makes_the_plan_and_does_not_ask_nobody(
        self, runbook: Runbook, engine: AsyncEngine
    ) -> None:
        await add(engine, 2)

        asked = runbook("outbox", "replay", "--projector", "activity")
        ran = runbook("outbox", "replay", "--projector", "activity", "--json", *FAST)

        assert (asked.code, asked.out) == (2, "")
        assert "run it on a terminal, or with --yes: runbook outbox replay" in asked.err
        assert (ran.code, ran.json["delivered"]) == (0, 2)

    async def test_stops_when_it_fails_again_and_ends_with_1(self, runbook: Runbook, engine: AsyncEngine) -> None:
        await add(engine, 20, name="poison")

        async with refused(engine, "NEW.name = 'poison'"):
            ran = await asyncio.to_thread(runbook, "outbox", "replay", "--projector", "activity", *FAST)
        shown = runbook("replays", "show", str((await every_plan(engine))[0]), "--json")

        assert (ran.code, ran.out) == (1, "stopped: 0 delivered, 0 skipped, 1 dead again, 19 untouched of 20\n")
        assert [(item["n"], item["why"]) for item in shown.json["items"]] == [(1, "Raise: it is refused")]

    @pytest.mark.chaos
    async def test_is_paused_paced_and_cancelled_by_commands(self, runbook: Runbook, engine: AsyncEngine) -> None:
        await add(engine, 200)
        plan = planned(runbook)

        started = runbook("outbox", "replay", plan, "--rate", "1/s", "--yes", "--no-wait")
        said = [
            runbook("replays", *words, "--by", "ada", "--reason", "slow")
            for words in (("pause", plan), ("repace", plan, "--rate", "2/s"), ("resume", plan), ("cancel", plan))
        ]
        joined = runbook("outbox", "replay", plan)

        assert (started.code, f"runbook replays pause {plan}" in started.out) == (0, True)
        assert [(ran.code, ran.out) for ran in said] == [
            (0, "paused by ada: slow\n"),
            (0, "2/s, asked by ada: slow\n"),
            (0, "resumed by ada: slow\n"),
            (0, "cancelled by ada: slow\n"),
        ]
        assert joined.code == 1
        assert joined.out.startswith("cancelled: ")

    @pytest.mark.chaos
    async def test_that_is_large_waits_for_another_name(self, runbook: Runbook, engine: AsyncEngine) -> None:
        await add(engine, 5)
        plan = planned(runbook)

        started = runbook("outbox", "replay", plan, *FAST, "--no-wait", "--by", "ada", RUNBOOK_APPROVE_ABOVE="9")
        own = runbook("replays", "approve", plan, "--by", "ada", "--reason", "looks fine")
        other = runbook("replays", "approve", plan, "--by", "grace", "--reason", "looks fine")
        ended = runbook("outbox", "replay", plan)

        assert f"10 items need another person's word: runbook replays approve {plan}" in started.err
        assert (own.code, "ada started it, and so may not approve it" in own.err) == (1, True)
        assert (other.code, other.out) == (0, "approved by grace: looks fine\n")
        assert (ended.code, ended.out) == (0, "done: 10 delivered, 0 skipped, 0 dead again of 10\n")

    async def test_of_a_plan_that_cannot_be_run_is_refused_in_words(
        self, runbook: Runbook, engine: AsyncEngine
    ) -> None:
        await add(engine, 2)
        edited = planned(runbook)
        await edit(engine, f"DELETE FROM service_replay_items WHERE plan_id = '{edited}' AND n = 1")

        for words, code, answer in (
            ((edited,), 1, "was edited: it was made of 4 items with the hash"),
            ((UNKNOWN,), 1, f"there is no plan {UNKNOWN}: `runbook replays list`"),
            (("seven",), 2, "plan_id"),
        ):
            ran = runbook("outbox", "replay", *words, "--yes")

            assert (ran.code, ran.out) == (code, ""), words
            assert answer in ran.err, words


async def every_plan(engine: AsyncEngine) -> list[UUID]:
    async with engine.begin() as connection:
        return list((await connection.execute(text("SELECT id FROM service_replay_plans"))).scalars())
