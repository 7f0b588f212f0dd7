"""A surge on the running stack: what people see of it, and how they let it be acted on."""

import asyncio
import shlex
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import httpx
import pytest_asyncio

from integrations.db import connections
from integrations.db.vault import Vault
from integrations.domain.refresh import Refresh, Refreshed
from starters.pending import waiting
from tests.refresh.ground import add_due
from tests.starters.conftest import RUNBOOK, Runbook
from tests.starters.running import Running
from workflows.refresh_sweep import SCHEDULE

REFUSED = {"kind": "status", "path": "/oauth/token", "status": 401, "body": {"error": "invalid_client"}}


class Refusing:
    """Connections whose refreshes the simulator refuses, and nobody else's."""

    def __init__(self, running: Running, ids: list[UUID], simulator: httpx.AsyncClient) -> None:
        self.running, self.ids, self.simulator = running, ids, simulator

    async def refresh(self) -> list[Refreshed]:
        handles = [await self.running.platform.refresh(each, by="ada", reason="a look") for each in self.ids]
        return list(await asyncio.gather(*(handle.result() for handle in handles)))

    async def statuses(self) -> set[str]:
        async with self.running.platform.sessions.begin() as session:
            return {(await connections.find(session, each)).status for each in self.ids}

    async def heals(self) -> None:
        (await self.simulator.delete("/admin/faults")).raise_for_status()


@pytest_asyncio.fixture
async def refusing(running: Running) -> AsyncIterator[Refusing]:
    settings, platform = running.stack.settings, running.platform
    assert settings.simulator_url is not None
    async with httpx.AsyncClient(base_url=settings.simulator_url, trust_env=False, timeout=20) as simulator:
        # No sweep of the stack's own comes upon them.
        ground = await add_due(platform.sessions, Vault(settings.keys), simulator, 8, overdue=-timedelta(days=1))
        order = REFUSED | {"account_id": list(ground.accounts.values())}
        (await simulator.post("/admin/faults", json=order)).raise_for_status()
        crowd = Refusing(running, ground.ids, simulator)
        yield crowd
        # Whatever happened here is over for the tests that share the stack.
        await crowd.heals()
        await crowd.refresh()
        for each in ground.ids:
            await platform.disconnect(each, by="the test", reason="done")


class TestLateRefreshes:
    async def test_are_seen_with_what_they_wait_for(self, runbook: Runbook, running: Running) -> None:
        settings, platform = running.stack.settings, running.platform
        async with httpx.AsyncClient(base_url=settings.simulator_url or "", trust_env=False, timeout=20) as simulator:
            ground = await add_due(
                platform.sessions,
                Vault(settings.keys),
                simulator,
                3,
                provider_id="github",
                overdue=timedelta(hours=1),
            )
        await platform.temporal.get_schedule_handle(SCHEDULE).trigger()
        async with asyncio.timeout(30):
            while "a worker that serves github" not in (told := runbook("refresh", "late")).out:
                await asyncio.sleep(0.5)

        status = runbook("status", "--json")
        [late] = status.json["refresh"]["overdue"]
        assert (status.code, status.json["trouble"], late["provider"], late["connections"]) == (1, True, "github", 3)
        assert "github: 3 connections are late" in runbook("status").out
        assert ["refresh", "late"] in [words[:2] for words in runbook("status").printed_commands]
        [row] = runbook("refresh", "late", "--json").json
        assert row["waits_for"].startswith("a worker that serves github")
        assert told.code == 0
        for each in ground.ids:
            await platform.disconnect(each, by="the test", reason="done")
        assert "No refresh is late" in runbook("refresh", "late").out
        await platform.temporal.get_workflow_handle("refresh:github").terminate()


class TestARefreshThatWaits:
    async def test_is_joined_and_says_how_to_have_it_tried_at_once(self, runbook: Runbook, running: Running) -> None:
        settings, platform = running.stack.settings, running.platform
        async with httpx.AsyncClient(base_url=settings.simulator_url or "", trust_env=False, timeout=20) as simulator:
            ground = await add_due(platform.sessions, Vault(settings.keys), simulator, 1, overdue=-timedelta(days=1))
            [one] = ground.ids
            await ground.breaks(one, kind="throttle", retry_after=600)
            handle = await platform.refresh(one, by="ada", reason="a look")
            async with asyncio.timeout(30):
                while waiting(await handle.describe()) is None:
                    await asyncio.sleep(0.1)

            joined = runbook("connections", "refresh", str(one), "--timeout", "1")
            (await simulator.delete("/admin/faults")).raise_for_status()
        assert f"{handle.id} is under way and waits: Simulator: 429" in joined.err
        [printed] = [line for line in joined.err.splitlines() if "temporal activity reset" in line]
        words = shlex.split(printed.partition("temporal ")[2])
        reset = await asyncio.to_thread(
            subprocess.run, [RUNBOOK.with_name("temporal"), *words], capture_output=True, text=True, check=False
        )
        assert reset.returncode == 0, reset.stderr
        assert (await asyncio.wait_for(handle.result(), 30)).refresh is Refresh.REFRESHED
        await platform.disconnect(one, by="the test", reason="done")


class TestASurge:
    async def test_is_seen_and_released(self, runbook: Runbook, refusing: Refusing) -> None:
        first = await refusing.refresh()

        assert {each.refresh for each in first} == {Refresh.SUSPECT}
        assert await refusing.statuses() == {"active"}
        status = runbook("status", "--json")
        [surge] = status.json["refresh"]["surges"]
        assert (status.code, surge["provider"], surge["held"]) == (1, "simulator", 8)
        assert "401 invalid_client (8)" in surge["cause"]
        assert "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET" in surge["way_out"]
        line = next(line for line in runbook("status").out.splitlines() if line.startswith("refresh "))
        assert "trouble" in line
        held = runbook("refresh", "held", "simulator", "--json").json
        assert {row["connection"] for row in held} == {str(each) for each in refusing.ids}
        assert runbook("refresh", "held", "github").out.strip() == "Nothing is held back."
        [task] = [row for row in runbook("tasks", "list", "--json").json if row["kind"] == "surge"]
        assert (task["provider"], task["connection"]) == ("simulator", None)
        assert "held back" in runbook("connections", "why", str(refusing.ids[0])).out

        closed = runbook("tasks", "close", task["id"])
        assert closed.code == 1
        assert "runbook refresh release simulator" in closed.err
        assert runbook("tasks", "ack", task["id"]).code == 0

        one = runbook("connections", "refresh", str(refusing.ids[0]))
        assert (one.code, "runbook tasks list" in one.err) == (1, True)

        released = runbook("refresh", "release", "simulator", "--by", "ada", "--reason", "it is true", "--json")
        assert (released.code, released.json["released"]) == (0, 8)
        assert {each.refresh for each in await refusing.refresh()} == {Refresh.OPERATOR_MUST_ACT}
        assert await refusing.statuses() == {"errored"}
        [known] = [row for row in runbook("tasks", "list", "--all", "--json").json if row["id"] == task["id"]]
        assert (known["status"], known["closed_by"], known["closed_reason"]) == ("closed", "ada", "it is true")

    async def test_that_is_none_is_said_and_is_no_failure(self, runbook: Runbook) -> None:
        done = runbook("refresh", "release", "simulator")

        assert done.code == 0
        assert "There is no surge at simulator" in done.out
