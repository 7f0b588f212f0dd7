"""An outage is never a revocation: three failed calls, or half an hour of them, change no connection's status."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from integrations.domain.refresh import Refresh
from integrations.providers import http
from tests.property import operators
from tests.property.operators import Events, Orders, Refreshes
from tests.property.owners import Consents
from tests.property.person import Subject
from tests.property.scene import Scene
from tests.property.world import World

HALF_AN_HOUR = timedelta(minutes=30)
A_WHILE = timedelta(minutes=10)
"""Longer than any back-off: what is still tried by then has been tried again."""
_TRIED = 8
"""Calls in half an hour, at least: the longest back-off is of five minutes."""
REFRESH = {"path": "/oauth/token", "grant_type": "refresh_token"}
CODE = {"path": "/oauth/token", "grant_type": "authorization_code"}
IDENTITY, PROBES = {"path": "/api/me"}, {"path": "/api/notes"}

PLAIN, OAUTH, SILENT = "503", "503 with invalid_grant in it", "no answer"
OUTAGES = {
    PLAIN: {"kind": "status", "status": 503},
    OAUTH: {"kind": "status", "status": 503, "body": {"error": "invalid_grant"}},
    SILENT: {"kind": "hang"},
}
THREE_TIMES, HALF_AN_HOUR_LONG = 3, None
lengths = pytest.mark.parametrize("times", [THREE_TIMES, HALF_AN_HOUR_LONG], ids=["three times", "for half an hour"])


@dataclass
class Bad:
    """A provider that has bad days, a connection to it, and a clock that can be turned on."""

    env: WorkflowEnvironment
    world: World
    scene: Scene
    subject: Subject
    patch: pytest.MonkeyPatch

    @property
    def lifecycle(self) -> WorkflowHandle[Any, Any]:
        return self.world.lifecycle(self.subject.id)

    async def standing(self) -> tuple[str, datetime, int]:
        """Its status, since when, and how often it ever changed."""
        sql = """SELECT status, status_since, (SELECT count(*) FROM service_connection_transitions
            WHERE connection_id = c.id) FROM service_connections c WHERE id = :id"""
        [row] = await self.world.rows(sql, id=self.subject.id)
        return row.status, row.status_since, row.count

    async def breaks(self, outage: str, place: dict[str, str], *, times: int | None = None) -> str:
        counted = {} if times is None else {"count": times}
        if outage == SILENT:
            # A call that nobody answers is given up after a moment instead of eight seconds.
            self.patch.setattr(http, "TIMEOUT", timedelta(milliseconds=300))
        return await self.world.breaks(account_id=self.subject.account_id, **OUTAGES[outage], **place, **counted)

    async def passes(self, time: timedelta, handle: WorkflowHandle[Any, Any]) -> bool:
        """Turn a workflow's clock on. False when it came to its end meanwhile, or before."""
        try:
            return await self.env.fast_forward(handle, time)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False

    async def sits_out(self, handle: WorkflowHandle[Any, Any], fault: str, times: int | None) -> None:
        """Let the outage run its length, which half an hour of trying does not shorten, and end it."""
        lasted = await self.passes(A_WHILE if times else HALF_AN_HOUR, handle)
        listed = (await self.world.simulator.get("/admin/faults")).json()
        met = next((each["hits"] for each in listed if each["id"] == fault), times)
        await self.world.heals(fault)
        assert met == times if times else (lasted and met >= _TRIED), f"{met} calls met the outage"

    async def sessions(self) -> list[str]:
        sql = "SELECT status FROM service_consent_sessions WHERE connection_id = :id ORDER BY created_at"
        return [row.status for row in await self.world.rows(sql, id=self.subject.id)]


@pytest_asyncio.fixture
async def bad(world: World, time_skipping: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Connected, and working."""
    scene = Scene(world)
    await scene.begin()
    subject = await scene.add()
    await scene.consents(subject, Consents.WHOLLY)
    await scene.rests()
    yield Bad(time_skipping, world, scene, subject, monkeypatch)
    await scene.end()


Begin = Callable[[Bad], Awaitable[None]]


async def blocked(bad: Bad) -> None:
    await operators.at_the_provider(bad.world, bad.subject, Events.REVOKED)
    await bad.scene.refresh(bad.subject, Refreshes.HEALTHY)
    await bad.scene.rests()


async def narrowed(bad: Bad) -> None:
    await operators.at_the_provider(bad.world, bad.subject, Events.NARROWED)
    await bad.scene.refresh(bad.subject, Refreshes.HEALTHY)
    await bad.scene.rests()


async def asked(bad: Bad) -> None:
    """It works, and its owner is asked for a fresh consent all the same."""
    await operators.order(bad.world, bad.subject, Orders.ASK)
    await bad.scene.rests()


async def repaired(bad: Bad, before: tuple[str, datetime, int]) -> None:
    """It works; and where it had stopped working, this was the only change."""
    await bad.scene.rests()
    status, since, changes = await bad.standing()
    assert status == "active"
    assert (changes, since == before[1]) == ((before[2], True) if before[0] == "active" else (before[2] + 1, False))


class TestARefresh:
    @lengths
    @pytest.mark.parametrize("outage", OUTAGES)
    async def test_of_a_working_connection_waits(self, bad: Bad, outage: str, times: int | None) -> None:
        before = await bad.standing()

        fault = await bad.breaks(outage, REFRESH, times=times)
        handle = await bad.world.refresh(bad.subject.id)
        await bad.sits_out(handle, fault, times)
        await bad.passes(A_WHILE, handle)
        done = await asyncio.wait_for(handle.result(), 20)

        assert (done.refresh, done.version) == (Refresh.REFRESHED, 2)
        await repaired(bad, before)

    @lengths
    async def test_is_not_confirmed_by_an_outage(self, bad: Bad, times: int | None) -> None:
        """A refusal that was a mistake, and then the second look meets an outage."""
        before = await bad.standing()
        refusal = {"kind": "status", "status": 400, "body": {"error": "invalid_grant"}, "count": 1}

        await bad.world.breaks(account_id=bad.subject.account_id, **refusal, **REFRESH)
        fault = await bad.breaks(OAUTH, REFRESH, times=times)
        handle = await bad.world.refresh(bad.subject.id)
        await bad.sits_out(handle, fault, times)
        await bad.passes(A_WHILE, handle)
        done = await asyncio.wait_for(handle.result(), 20)

        assert done.refresh is Refresh.REFRESHED
        await repaired(bad, before)

    async def test_whose_answers_were_lost_for_too_long_asks_the_owner_and_demotes_nobody(self, bad: Bad) -> None:
        """Half an hour is more than the provider's rotation grace: the token may be used up, and nobody can tell."""
        before = await bad.standing()

        fault = await bad.breaks(SILENT, REFRESH)
        handle = await bad.world.refresh(bad.subject.id)
        await bad.sits_out(handle, fault, HALF_AN_HOUR_LONG)
        # Only the workflow's clock was turned on: the mark of what was sent is as old as that only by our hand.
        aged = "UPDATE service_refresh_leases SET sent_at = sent_at - interval '30 minutes' WHERE connection_id = :id"
        async with bad.world.sessions.begin() as session:
            await session.execute(text(aged), {"id": bad.subject.id})
        await bad.passes(A_WHILE, handle)
        done = await asyncio.wait_for(handle.result(), 20)
        bad.subject.asked = True
        await bad.scene.rests()
        await bad.scene.consents(bad.subject, Consents.WHOLLY)

        assert done.refresh is Refresh.AMBIGUOUS
        await repaired(bad, before)

    @pytest.mark.parametrize("begin", [blocked, narrowed, asked])
    async def test_while_the_owner_is_waited_for_changes_nothing(self, bad: Bad, begin: Begin) -> None:
        await begin(bad)
        before = await bad.standing()

        fault = await bad.breaks(OAUTH, REFRESH)
        handle = await bad.world.refresh(bad.subject.id)
        for each in (handle, bad.lifecycle):
            await bad.passes(HALF_AN_HOUR, each)
        assert await bad.standing() == before
        await bad.world.heals(fault)
        await bad.passes(A_WHILE, handle)
        await asyncio.wait_for(handle.result(), 20)
        await bad.scene.consents(bad.subject, Consents.WHOLLY)

        await repaired(bad, before)


class TestAConsent:
    @pytest.mark.parametrize("place", [IDENTITY, PROBES], ids=["exchange", "proof"])
    @pytest.mark.parametrize(
        ("begin", "outage", "times"),
        [
            (blocked, OAUTH, THREE_TIMES),
            (blocked, OAUTH, HALF_AN_HOUR_LONG),
            (blocked, SILENT, THREE_TIMES),
            (asked, PLAIN, HALF_AN_HOUR_LONG),
        ],
        ids=["blocked, three times", "blocked, half an hour", "blocked, three times no answer", "asked, half an hour"],
    )
    async def test_waits_for_the_end_and_is_completed(
        self, bad: Bad, begin: Begin, place: dict[str, str], outage: str, times: int | None
    ) -> None:
        await begin(bad)
        before, invitations = await bad.standing(), len(await bad.sessions())

        fault = await bad.breaks(outage, place, times=times)
        await bad.scene.consents(bad.subject, Consents.WHOLLY)
        await bad.sits_out(bad.lifecycle, fault, times)
        during = await bad.standing()
        await bad.passes(A_WHILE, bad.lifecycle)

        await repaired(bad, before)
        assert during == before or times  # three calls are over before anybody can look in between
        assert (await bad.sessions())[invitations - 1 :] == ["completed"]


class TestTheCode:
    @pytest.mark.parametrize(("begin", "outage"), [(blocked, OAUTH), (blocked, SILENT), (asked, OAUTH)])
    async def test_goes_out_once_and_the_owner_comes_again(self, bad: Bad, begin: Begin, outage: str) -> None:
        """Three consents in half an hour of outage: each ends in a fresh invitation, and none in a demotion."""
        await begin(bad)
        before, invitations = await bad.standing(), len(await bad.sessions())

        fault = await bad.breaks(outage, CODE)
        for _ in range(3):
            await bad.scene.consents(bad.subject, Consents.WHOLLY)
            await bad.scene.rests()
            assert await bad.standing() == before
            assert await bad.passes(HALF_AN_HOUR / 3, bad.lifecycle)
        await bad.world.heals(fault)
        await bad.scene.consents(bad.subject, Consents.WHOLLY)

        await repaired(bad, before)
        assert (await bad.sessions())[invitations - 1 :] == ["refused", "refused", "refused", "completed"]
