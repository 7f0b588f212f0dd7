"""`runbook outage` on a running stack, whose rows say that providers are down."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import select, text
from temporalio.client import WorkflowExecutionStatus
from typer.testing import CliRunner

from integrations.db import outages
from integrations.db.outage_tables import Mitigation
from integrations.db.session import Sessions
from integrations.domain.outage import DETECTOR, Brake, Ended, OutageResult, Scope, Step
from integrations.domain.verdict import Meaning
from integrations.temporal import start_detector
from starters.app import command_line
from tests.db.test_outage_counts import add, made
from tests.outage_rows import add_brake, add_outage, add_parked, close_outage
from tests.starters.conftest import Runbook
from tests.starters.running import Running
from workflows.reconcile import SCHEDULE

TABLES = ("outage_notes", "mitigations", "parked_jobs", "outages")
GITHUB = "github"
"""Nothing of the stack calls it: what rows say of it is all that there is."""


@pytest_asyncio.fixture(scope="module", autouse=True)
async def detector(running: Running) -> AsyncIterator[WorkflowExecutionStatus | None]:
    """How the stack's own did before these tests. During them there is none: rows are as a test wrote them, and nobody
    takes them for outages that want a workflow, or that are over."""
    client = running.platform.temporal
    reconcile = client.get_schedule_handle(SCHEDULE)
    before = (await client.get_workflow_handle(DETECTOR).describe()).status
    await reconcile.pause()
    await client.get_workflow_handle(DETECTOR).terminate()
    yield before
    await start_detector(client)
    await reconcile.unpause()


@pytest_asyncio.fixture
async def sessions(running: Running) -> AsyncIterator[Sessions]:
    """The stack's rows; what is told of outages here is gone again for the tests that share it."""
    yield running.platform.sessions
    told = "(SELECT event_id FROM service_lifecycle_outbox WHERE name LIKE 'provider.%')"
    async with running.platform.sessions.begin() as session:
        for table in ("notification_dispatches", "notification_requests", "activity_entries", "projector_ledger"):
            await session.execute(text(f"DELETE FROM service_{table} WHERE event_id IN {told}"))
        await session.execute(text("DELETE FROM service_lifecycle_outbox WHERE name LIKE 'provider.%'"))
        await session.execute(text("DELETE FROM service_operator_tasks WHERE kind = 'outage'"))
        for table in TABLES:
            await session.execute(text(f"DELETE FROM service_{table}"))


async def brakes_on(sessions: Sessions) -> list[float | None]:
    """The rates of what is on."""
    async with sessions.begin() as session:
        return list(await session.scalars(select(Mitigation.rate).where(Mitigation.released_at.is_(None))))


async def ramping(sessions: Sessions) -> UUID:
    """Contained, on the ramp, and back once."""
    outage_id = await add_outage(sessions, GITHUB)
    await add_brake(sessions, outage_id, provider_id=GITHUB, rate=1.25)
    walked = ((Step.CONTAIN, 0), (Step.RAMP, 5), (Step.RAMP, 10), (Step.PROBE, 0), (Step.RAMP, 5))
    async with sessions.begin() as session:
        for number, (step, percent) in enumerate(walked):
            await outages.note(session, outage_id, str(number), step, f"let through: {percent} %", percent=percent)
        await outages.at(session, outage_id, Step.RAMP)
    await add_parked(sessions, provider_id=GITHUB)
    return outage_id


class TestTheStatus:
    def test_of_a_platform_whose_providers_are_up_is_fine(self, runbook: Runbook, sessions: Sessions) -> None:
        told, all_of_it = runbook("outage", "status"), runbook("status")

        assert (told.code, told.out) == (0, "No outage is open.\n")
        [line] = [line for line in all_of_it.out.splitlines() if line.startswith("outage ")]
        assert "no provider is down" in line
        assert "outage" not in runbook("status", "--json").json["not_watched"]

    async def test_tells_where_an_outage_stands(self, runbook: Runbook, sessions: Sessions) -> None:
        await ramping(sessions)

        told, data = runbook("outage", "status"), runbook("outage", "status", GITHUB, "--json")

        assert (told.code, data.code) == (1, 1)
        line = next(line for line in told.out.splitlines() if line.startswith(GITHUB))
        for word in ("the whole provider", "ramp", "5 % (1.25/s)", " s left", "runbook outage explain github"):
            assert word in line
        [found] = data.json["open"]
        assert [found[name] for name in ("step", "percent", "rate", "relapses", "parked")] == ["ramp", 5, 1.25, 1, 1]
        assert found["next"] == "runbook outage explain github"
        assert runbook("outage", "status", "simulator").code == 0

    async def test_is_a_line_of_the_status_of_everything(self, runbook: Runbook, sessions: Sessions) -> None:
        await ramping(sessions)

        told, data = runbook("status"), runbook("status", "--json")

        assert (told.code, data.code, data.json["trouble"]) == (1, 1, True)
        line = next(line for line in told.out.splitlines() if line.startswith("outage "))
        for word in (
            "trouble",
            "github: the whole provider; ramp, 5 % (1.25/s) let through; relapses: 1; parked jobs: 1",
        ):
            assert word in line
        assert ["outage", "explain", GITHUB] in told.printed_commands
        assert data.json["outage"]["open"][0]["provider"] == GITHUB

    async def test_says_what_a_pause_means_for_one_that_is_contained(
        self, runbook: Runbook, sessions: Sessions
    ) -> None:
        outage_id = await add_outage(sessions, GITHUB)
        await add_outage(sessions, "slack", why_not="the platform observes")

        paused = runbook("automation", "pause", "outage", "--reason", "a release")
        other = runbook("automation", "pause", "reauth", "--reason", "a release")
        runbook("automation", "resume")
        why_not = "outage is paused by ada until 20:00 UTC: a release"
        async with sessions.begin() as session:
            await outages.at(session, outage_id, Step.HOLD, why_not=why_not)

        assert paused.code == 0
        assert "The outage of github is open, and stays as it is" in paused.out
        assert "slack" not in paused.out
        assert ["outage", "close", GITHUB] in paused.printed_commands
        assert "github" not in other.out
        assert f"github stays as it is, nothing is changed: {why_not}" in runbook("outage", "status").out
        assert f"all stays as it is: {why_not}" in runbook("status").out
        explained = runbook("outage", "explain", GITHUB)
        assert f"Nothing by itself: {why_not}. What is on stays on" in " ".join(explained.out.split())

    async def test_says_that_an_outage_is_only_observed(self, runbook: Runbook, sessions: Sessions) -> None:
        await add_outage(sessions, GITHUB, why_not="outage is paused by ada until 20:00 UTC: a release")

        told, all_of_it = runbook("outage", "status"), runbook("status")

        assert told.code == 1
        assert "github is only observed, nothing is touched: outage is paused by ada" in told.out
        assert "only observed, nothing is touched: outage is paused by ada" in all_of_it.out
        assert ["automation"] in told.printed_commands

    async def test_of_everything_says_that_nobody_is_demoted_meanwhile(
        self, runbook: Runbook, sessions: Sessions
    ) -> None:
        outage_id = await add_outage(sessions, GITHUB)
        await add_brake(sessions, outage_id, Brake.SHIELD, provider_id=GITHUB)

        told = runbook("status")

        line = next(line for line in told.out.splitlines() if line.startswith("automation "))
        assert "shielded" in line
        assert "nobody is demoted for what github says: its outage" in line

    async def test_says_that_its_lease_ran_out(self, runbook: Runbook, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions, GITHUB)
        await add_brake(sessions, outage_id, provider_id=GITHUB, lease_until=datetime.now(UTC) - timedelta(minutes=3))

        assert "ran out 3 min ago" in runbook("outage", "status").out
        assert "its lease ran out 3 min ago" in runbook("status").out

    async def test_tells_what_ended_within_a_day(self, runbook: Runbook, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions, GITHUB)
        await add_parked(sessions, provider_id=GITHUB, settled_at=datetime.now(UTC), outcome="done")
        await close_outage(sessions, outage_id, Ended.BY_HAND)

        told = runbook("outage", "status")

        assert told.code == 0
        assert "by_hand" in told.out
        assert ["outage", "explain", GITHUB, "--outage", str(outage_id)] in told.printed_commands
        assert "1 ended within a day" in runbook("status").out

    def test_of_a_provider_that_nobody_knows_names_the_nearest(self, runbook: Runbook, sessions: Sessions) -> None:
        told = runbook("outage", "status", "githb")

        assert (told.code, told.out) == (1, "")
        assert "there is no provider 'githb'; did you mean 'github'?" in told.err


class TestAnExplanation:
    async def test_is_one_page(self, runbook: Runbook, sessions: Sessions) -> None:
        outage_id = await ramping(sessions)

        told = runbook("outage", "explain", GITHUB)

        assert told.code == 0
        lines = told.out.splitlines()
        assert lines[0] == "GitHub is down"
        assert any(re.fullmatch(r"outage +" + str(outage_id), line) for line in lines)
        assert "48 of 50 calls failed (96 %), within 60 s" in told.out
        matrix = [line.split() for line in lines if line.startswith(("FAILING", "token", "notes.write"))]
        assert matrix == [
            ["FAILING/CALLS", "org:acme", "org:other"],
            ["token", "30/30", "-"],
            ["notes.write", "10/10", "8/10"],
        ]
        assert any(line.startswith("   100 %  █") for line in lines)
        assert [line.split()[-2:] for line in lines if "let through: " in line][-1] == ["5", "%"]
        assert "the queue of github (1.25/s)" in told.out
        assert "1 parked" in told.out
        assert "each when the one before it went well" in told.out
        assert {tuple(words[:3]) for words in told.printed_commands} >= {
            ("outage", "close", GITHUB),
            ("outage", "pin", GITHUB),
        }

    async def test_has_everything_as_data(self, runbook: Runbook, sessions: Sessions) -> None:
        outage_id = await ramping(sessions)

        told = runbook("outage", "explain", GITHUB, "--json").json

        assert told["standing"]["outage"] == str(outage_id)
        assert told["finding"]["failing"] == 48
        assert [line["percent"] for line in told["timeline"]] == [0, 5, 10, 0, 5]
        assert [(line["brake"], line["rate"]) for line in told["journal"]] == [("queue", 1.25)]
        assert (told["parked"], len(told["chart"]) > 5) == ({"parked": 1}, True)

    async def test_is_of_the_last_one_or_of_the_one_that_is_named(self, runbook: Runbook, sessions: Sessions) -> None:
        first = await add_outage(sessions, GITHUB, scope=Scope.ENDPOINT, names=("token",))
        await close_outage(sessions, first)
        await add_outage(sessions, GITHUB)

        last, named = runbook("outage", "explain", GITHUB), runbook("outage", "explain", GITHUB, "--outage", str(first))
        other = runbook("outage", "explain", "simulator", "--outage", str(first))

        assert last.out.startswith("GitHub is down\n")
        assert named.out.startswith("GitHub is down: the endpoint token\n")
        assert "Nothing: it ended at " in named.out
        assert other.code == 1
        assert f"outage {first} is one of github: runbook outage explain github --outage {first}" in other.err

    def test_of_none_says_so(self, runbook: Runbook, sessions: Sessions) -> None:
        none, unknown = runbook("outage", "explain", GITHUB), runbook("outage", "explain", "githb")
        missing = runbook("outage", "explain", GITHUB, "--outage", str(uuid4()))

        assert [ran.code for ran in (none, unknown, missing)] == [1, 1, 1]
        assert "github had no outage so far" in none.err
        assert "did you mean 'github'?" in unknown.err
        assert "there is no outage" in missing.err

    async def test_and_the_status_need_no_temporal(self, runbook: Runbook, sessions: Sessions) -> None:
        await ramping(sessions)
        nowhere = {"TEMPORAL_ADDRESS": "127.0.0.1:9"}

        told, status = runbook("outage", "explain", GITHUB, **nowhere), runbook("outage", "status", **nowhere)

        assert (told.code, status.code) == (0, 1)
        assert "GitHub is down" in told.out
        assert "Note: Temporal does not answer at 127.0.0.1:9" in told.err
        assert "Note: Temporal does not answer at 127.0.0.1:9" in status.err


class TestAnOrder:
    async def test_is_carried_out_by_the_outage_that_is_open(
        self, runbook: Runbook, running: Running, sessions: Sessions
    ) -> None:
        """One endpoint of a provider that nobody calls, for half an hour."""
        reason = ("--by", "ada", "--reason", "maintenance")
        opened = runbook("outage", "open", GITHUB, "--endpoint", "issues.write", "--for", "30m", *reason)
        assert opened.code == 0, opened.err
        assert opened.err.startswith("Target: ")
        assert "no worker has polled the queue 'provider-github'" in opened.err
        assert opened.out.startswith("outage:github contains issues.write for 30m.")
        assert ["outage", "status", GITHUB] in [words[:3] for words in opened.printed_commands]
        async with asyncio.timeout(20):
            while not await brakes_on(sessions):
                await asyncio.sleep(0.1)
        [found] = runbook("outage", "status", "--json").json["open"]
        assert (found["scope"], found["names"], found["by"], found["reason"]) == (
            "endpoint",
            ["issues.write"],
            "ada",
            "maintenance",
        )

        pinned = runbook("outage", "pin", GITHUB, "--rate", "2/s", *reason)
        assert (pinned.code, "pinned at 2 calls/s" in pinned.out) == (0, True)
        async with asyncio.timeout(20):
            while 2 not in await brakes_on(sessions):
                await asyncio.sleep(0.1)
        assert runbook(*pinned.printed_commands[-1]).code == 0
        more = runbook("outage", "open", GITHUB, "--tenant", "org:acme", *reason)
        assert "An outage of github is open already: org:acme is contained by it." in more.out
        assert "org:acme is being contained as well; all of it stays so until " in more.out

        closed = runbook("outage", "close", GITHUB, *reason)

        assert closed.code == 0, closed.err
        assert "it is being closed" in closed.out
        assert "issues.write at github (" in closed.out
        assert ["automation", "pause", "outage"] in [words[:3] for words in closed.printed_commands]
        handle = running.platform.temporal.get_workflow_handle("outage:github", result_type=OutageResult)
        result = await asyncio.wait_for(handle.result(), 20)
        assert (result.ended, result.why) == ("by_hand", "maintenance")
        assert await brakes_on(sessions) == []
        assert "by_hand" in runbook("outage", "explain", GITHUB).out

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("githb",), 1, "did you mean 'github'?"),
            ((GITHUB, "--endpoint", "tokn"), 2, "GitHub has no endpoint 'tokn'; did you mean 'token'?"),
            ((GITHUB, "--tenant", "acme"), 2, "acme"),
            ((GITHUB, "--tenant", "org:acme", "--endpoint", "token"), 2, "say either --endpoint or --tenant"),
            ((GITHUB, "--for", "soon"), 2, "--for 'soon' is not written like"),
            ((GITHUB, "--for", "9d"), 2, "--for 9d: from 1s to 7d"),
        ],
    )
    def test_that_cannot_be_meant_is_refused_in_words(self, words: tuple[str, ...], code: int, said: str) -> None:
        ran = CliRunner().invoke(command_line(["outage"]), ["outage", "open", *words])

        assert (ran.exit_code, ran.stdout) == (code, "")
        assert said in ran.stderr

    @pytest.mark.parametrize("words", [("close", GITHUB), ("pin", GITHUB, "--rate", "2/s")])
    async def test_about_no_outage_is_refused_in_words(
        self, runbook: Runbook, sessions: Sessions, words: tuple[str, ...]
    ) -> None:
        none = runbook("outage", *words)
        await add_outage(sessions, GITHUB, why_not="the platform observes")
        observed = runbook("outage", *words)

        assert (none.code, observed.code) == (1, 1)
        assert "no outage of github is open. To contain it by hand: runbook outage open github" in none.err
        assert "the outage of github is only observed, and nothing is contained: the platform observes" in observed.err

    async def test_about_one_that_nobody_works_on_is_refused(self, runbook: Runbook, sessions: Sessions) -> None:
        await add_outage(sessions, GITHUB)

        ran = runbook("outage", "close", GITHUB)

        assert (ran.code, ran.out) == (1, "")
        assert "no outage of github is being worked on" in ran.err

    async def test_to_a_provider_within_our_own_way_out_names_it(self, runbook: Runbook, sessions: Sessions) -> None:
        await add_outage(sessions, "ours", scope=Scope.OURS, names=(GITHUB, "slack"))

        ran = runbook("outage", "close", GITHUB)

        assert ran.code == 1
        assert "github is contained by the outage of our own way out: say ours in its place" in ran.err

    def test_to_pin_for_too_long_is_refused(self) -> None:
        ran = CliRunner().invoke(command_line(["outage"]), ["outage", "pin", GITHUB, "--rate", "2/s", "--for", "9d"])

        assert ran.exit_code == 2
        assert "--for 9d: from 1s to 7d" in ran.stderr

    @pytest.mark.parametrize("rate", ["fast", "-1/s", "2/m"])
    def test_to_pin_no_rate_is_refused(self, rate: str) -> None:
        ran = CliRunner().invoke(command_line(["outage"]), ["outage", "pin", GITHUB, f"--rate={rate}"])

        assert ran.exit_code == 2
        assert "is no rate: write calls a second, as 2/s or 0.5/s" in ran.stderr


async def test_a_stack_that_is_up_looks_for_outages(detector: WorkflowExecutionStatus | None) -> None:
    assert detector is WorkflowExecutionStatus.RUNNING


class TestWhatIf:
    async def test_lists_what_would_have_been_an_outage_by_other_limits(
        self, runbook: Runbook, sessions: Sessions
    ) -> None:
        a_day_ago = (datetime.now(UTC) - timedelta(days=1)).replace(second=0)
        outcomes = [Meaning.OUTAGE if n % 10 < 4 else Meaning.OK for n in range(30)]
        calls = [
            made(timedelta(), each, f"org:{n % 3}", provider_id=GITHUB, at=a_day_ago + timedelta(seconds=n))
            for n, each in enumerate(outcomes)
        ]
        await add(sessions, *calls)
        asked = ("outage", "what-if", "--provider", GITHUB)

        try:
            told, data = runbook(*asked, "--ratio", "0.3"), runbook(*asked, "--ratio", "0.3", "--json")
            strict, recent = runbook(*asked), runbook(*asked, "--ratio", "0.3", "--since", "2h")
        finally:
            async with sessions.begin() as session:
                await session.execute(text(f"DELETE FROM service_provider_calls WHERE provider_id = '{GITHUB}'"))

        line = next(line for line in told.out.splitlines() if line.startswith(GITHUB))
        for word in ("the whole provider", f"{a_day_ago:%Y-%m-%d %H:%M} UTC", "30", "40 %"):
            assert word in line
        assert "By 20 calls in a minute of which 30 % fail" in told.out
        [found] = data.json
        assert (found["provider"], found["scope"], found["failing"], found["share"], found["certain"]) == (
            GITHUB,
            "provider",
            12,
            40.0,
            True,
        )
        assert "Nothing would have been an outage." in strict.out
        assert "Nothing would have been an outage." in recent.out

    def test_says_what_is_no_ratio_no_time_and_who_is_no_provider(self, runbook: Runbook, sessions: Sessions) -> None:
        percent, nobody, ancient = (
            runbook("outage", "what-if", "--ratio", "30"),
            runbook("outage", "what-if", "--provider", "gitub"),
            runbook("outage", "what-if", "--since", "999999d"),
        )

        assert (percent.code, "write 0.3 for 30 %" in percent.err) == (2, True)
        assert (ancient.code, "999999d" in ancient.err, "Traceback" in ancient.err) == (2, True, False)
        assert nobody.code != 0
        assert "github" in nobody.err
