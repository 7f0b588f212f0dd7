"""`runbook automation` on a running stack: what is paused waits, and is done when the pause is over."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text

from integrations.db import automation
from integrations.db.tables import Deployment
from integrations.domain.automation import Conduct
from starters.demo.simulator import Simulator
from tests.factories import stored
from tests.starters.conftest import Account, Runbook
from tests.starters.running import Running


@pytest_asyncio.fixture(autouse=True)
async def _acting(running: Running) -> AsyncIterator[None]:
    """Nothing is paused before or after, and nothing noted."""
    yield
    async with running.platform.sessions.begin() as session:
        await session.execute(text("DELETE FROM service_automation_pauses"))
        await session.execute(text("DELETE FROM service_would_have_done"))
        await automation.conduct(session, Conduct.ACT)


@pytest_asyncio.fixture
async def simulator(running: Running) -> AsyncIterator[Simulator]:
    found = Simulator(running.stack.simulator_url)
    yield found
    await found.close()


class TestARevocationDuringAPause:
    async def test_is_found_and_listed_and_acted_upon_when_it_is_resumed(
        self, runbook: Runbook, running: Running, connected: Account, simulator: Simulator
    ) -> None:
        paused = runbook("automation", "pause", "reauth", "--for", "2h", "--by", "grace", "--reason", "a release")
        assert paused.code == 0
        assert paused.err.startswith("Target: ")
        assert paused.out.startswith("reauth is paused until ")
        assert "by grace: a release" in paused.out

        await simulator.revoke("acct_ada")
        refused = runbook("connections", "refresh", connected.word, "--json")

        assert (refused.code, refused.json["refresh"]) == (1, "refused")
        assert "Nothing is done about it by itself: reauth is paused by grace until" in refused.err
        assert ["automation"] in refused.printed_commands
        assert await connected.status() == "active"
        shown = runbook("automation", "--json").json
        assert [(each["mode"], each["by"]) for each in shown["pauses"]] == [("reauth", "grace")]
        [undone] = shown["undone"]
        assert (undone["connection_id"], undone["step"], shown["waiting"]) == (connected.word, "block", 1)
        told = runbook("automation")
        assert "block it and ask its owner to consent again" in told.out
        assert "400 invalid_grant" in told.out
        status = runbook("status")
        assert status.code == 0
        [line] = [line.split() for line in status.out.splitlines() if line.startswith("automation")]
        assert line[1] == "paused"
        assert "reauth until" in " ".join(line)
        assert runbook("status", "--json").json["automation"]["waiting"] == 1

        resumed = runbook(*paused.printed_commands[-1])
        assert resumed.code == 0
        assert "Resumed: reauth." in resumed.out
        async with running.platform.sessions.begin() as session:
            await session.execute(text("UPDATE service_grant_events SET noticed_at = noticed_at - interval '1 minute'"))
        await (await running.stack.temporal_client()).get_schedule_handle("reconcile").trigger()
        await connected.until("pending_reauth")

        assert runbook("automation").out == "The platform acts by itself, and nothing is paused.\n"
        await connected.consent()

    async def test_does_not_keep_a_person_from_asking_for_consent(self, runbook: Runbook, connected: Account) -> None:
        runbook("automation", "pause")

        assert runbook("reauth", "start", connected.word, "--revoked").code == 0

        await connected.until("pending_reauth")


class TestAPause:
    def test_of_everything_is_said_of_each_and_resumed_together(self, runbook: Runbook) -> None:
        paused = runbook("automation", "pause", "--for", "30m", "--json")
        assert {each["mode"] for each in paused.json} == {"outage", "reauth", "webhook", "outbox", "notification"}

        assert "nothing of it is done by itself in this release" in runbook("automation").out
        resumed = runbook("automation", "resume", "--json")
        assert resumed.json == ["notification", "outage", "outbox", "reauth", "webhook"]

    def test_of_outages_is_one_that_holds_something_back(self, runbook: Runbook) -> None:
        paused = runbook("automation", "pause", "outage", "--for", "30m", "--by", "grace", "--reason", "a drill")

        assert paused.out.startswith("outage is paused until ")
        assert "nothing of it is done by itself in this release" not in paused.out

    def test_that_is_none_may_be_resumed(self, runbook: Runbook) -> None:
        nothing, one = runbook("automation", "resume"), runbook("automation", "resume", "outbox")

        assert (nothing.code, nothing.out) == (0, "Nothing was paused.\n")
        assert (one.code, one.out) == (0, "outbox was not paused.\n")

    def test_is_extended_by_another_one_and_not_shortened(self, runbook: Runbook) -> None:
        untils = [
            datetime.fromisoformat(runbook("automation", "pause", "reauth", "--for", lasts, "--json").json[0]["until"])
            for lasts in ("2h", "10m")
        ]

        assert untils[0] == untils[1] > datetime.now(UTC) + timedelta(minutes=110)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (["--for", "soon"], "--for 'soon' is not written like 14d, 12h, 30m or 90s"),
            (["--for", "0s"], "a pause lasts from 1s to 7d"),
            (["--for", "8d"], "RUNBOOK_MODE=observe"),
            (["refresh"], "'refresh' is not one of"),
        ],
    )
    def test_that_makes_no_sense_is_refused_before_anything_is_touched(
        self, runbook: Runbook, given: list[str], said: str
    ) -> None:
        refused = runbook("automation", "pause", *given)

        assert (refused.code, refused.out) == (2, "")
        assert said in " ".join(refused.err.split())
        assert "Target:" not in refused.err


class TestObserving:
    async def test_begins_with_a_worker_that_was_told_to_and_ends_with_the_next(
        self, runbook: Runbook, running: Running
    ) -> None:
        running.stack.environment["RUNBOOK_MODE"] = "observe"
        try:
            await running.stack.start_worker("observer")
        finally:
            del running.stack.environment["RUNBOOK_MODE"]
            await running.stack.processes.pop("observer").stop()

        log = (running.stack.folder / "logs" / "observer.log").read_text()
        assert "worker.observes" in log
        [line] = [line.split() for line in runbook("status").out.splitlines() if line.startswith("automation")]
        assert line[1] == "observes"
        assert "The platform observes since" in runbook("automation").out
        runbook("automation", "pause", "reauth")
        assert "nothing is done: the platform observes (RUNBOOK_MODE=observe)" in runbook("automation", "resume").out

        await running.stack.start_worker("actor")
        await running.stack.processes.pop("actor").stop()

        assert (await stored(running.platform.sessions, Deployment, True)).conduct == "act"

    def test_is_the_only_other_mode(self, runbook: Runbook) -> None:
        wrong = runbook("status", RUNBOOK_MODE="watch")

        assert wrong.code == 2
        assert "RUNBOOK_MODE" in wrong.err
        assert "'act' or 'observe'" in wrong.err
