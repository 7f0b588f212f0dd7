"""A provider's outage as production has it: real traffic, a real provider that breaks, and who is harmed by it.

What is looked at is what the provider saw, the rows, and what the task queue's server says.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from integrations import temporal
from integrations.db.outage_tables import OutageNote
from integrations.db.session import Sessions
from integrations.db.tables import OperatorTask, Transition
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.outage import RAMP, Ended, OutageResult
from integrations.domain.refresh import SweepRequest
from tests.factories import every
from tests.outage.conftest import HURRY, TENANTS
from tests.outage.ground import Ground, Jobs, until
from tests.providers.person import Person
from tests.refresh.ground import add_due, statuses

_OUT = 20.0
"""Seconds of an outage."""
_WRITTEN = 1.0
"""Seconds until what was answered can be counted."""


@dataclass(frozen=True)
class Passage:
    result: OutageResult
    jobs: Jobs
    broken_at: float
    contained_at: float
    healed_at: float
    before: float
    """Calls per second that the provider saw."""


async def gone_through(
    ground: Ground,
    ids: Sequence[UUID],
    breaks: Callable[[], Awaitable[object]],
    *,
    provider_id: str = "simulator",
    rate: float = 8,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
) -> Passage:
    """From the first failing call to the end of the workflow, with traffic all the while, and every job's result."""
    await ground.went_on_before(rate, provider_id)
    each = rate / 2
    patience = timedelta(seconds=15)
    async with ground.traffic(ids, provider_id=provider_id, jobs=each, refreshes=each, patience=patience) as jobs:
        await asyncio.sleep(10)
        broken_at = time.time()
        before = await ground.calls(broken_at - 8, broken_at) / 8
        await breaks()
        await until(lambda: ground.is_contained(provider_id), "the provider is contained", 40)
        contained_at = time.time()
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(_OUT)
        healed_at = time.time()
        await ground.heals()
        await until(lambda: ground.is_ramped(provider_id), "everything is let through again", 90)
    # An outage waits for the refreshes that it has put off.
    await ground.catches_up(provider_id)
    result = await asyncio.wait_for(ground.outage(provider_id).result(), 90)
    return Passage(result, jobs, broken_at, contained_at, healed_at, before)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("detector")
async def test_nobody_is_demoted_and_nothing_is_lost(
    ground: Ground, sessions: Sessions, vault: Vault, person: Person
) -> None:
    """500 connections, and every answer is a 503. One owner revokes meanwhile, which is found when it is over."""
    due = await add_due(sessions, vault, person.http, 500, overdue=-timedelta(hours=1), tenants=TENANTS)

    revoked, *others = due.ids

    async def somebody_revokes() -> None:
        await due.revoke(revoked)
        await ground.due([revoked])

    end = await gone_through(
        ground, others, lambda: ground.breaks(kind="status", status=503), meanwhile=somebody_revokes
    )
    results = await end.jobs.results()
    told = await ground.story()

    assert set((await statuses(sessions)).values()) == {Status.ACTIVE}, told
    assert not await every(sessions, Transition)
    # Contained within two periods of the detector, and then next to nothing is called.
    [outage] = await ground.outages()
    assert outage.opened_at.timestamp() - end.broken_at < 2 * HURRY.every.total_seconds() + _WRITTEN
    under = await ground.calls(end.contained_at + 1, end.healed_at) / (end.healed_at - end.contained_at - 1)
    assert under < 0.05 * end.before, told
    # No job is lost; what was parked is done, and once.
    assert all(each.done for each in results), told
    parked = await ground.parked()
    assert len(parked) > 20
    assert {each.outcome for each in parked} == {"done"}
    assert await ground.notes_written(end.jobs.written) == len(end.jobs.written)
    # The ramp is walked, and none of its steps lets through more than it says.
    notes = await ground.notes()
    assert [note.percent for note in notes if note.percent][: len(RAMP)] == list(RAMP), told
    assert not await overloads(ground, notes), told
    # Validated, closed, and nothing stays on.
    assert end.result.ended is Ended.HEALED
    assert any(note.step == "validate" and "passed" in note.what for note in notes)
    assert await ground.queue_rate() is None
    assert all(each.released_at for each in await ground.journal())
    [task] = await every(sessions, OperatorTask)
    assert (task.kind, task.status) == ("outage", "closed")
    # What was refused under the shield was set aside: one sweep finds it, and nobody else.
    await temporal.start_sweep(ground.client, SweepRequest(provider_id="simulator"))

    async def is_found() -> bool:
        return (await statuses(sessions))[revoked] == Status.PENDING_REAUTH

    await until(is_found, "the revoked grant is found within a sweep", 30)
    assert [each.connection_id for each in await every(sessions, Transition)] == [revoked]


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize("family", ["twins"], indirect=True)
async def test_it_is_the_same_with_whatever_kind_of_trouble(
    ground: Ground, sessions: Sessions, vault: Vault, person: Person
) -> None:
    """Four providers of two vendors, 125 connections each, and each has another kind at the same time."""
    kinds: dict[str, dict[str, Any]] = {
        "simulator": {"kind": "throttle", "retry_after": 1},
        "small": {"kind": "hang"},
        "large": {"kind": "reset"},
        "slow": {"kind": "html", "status": 502},
    }
    there = {
        each: await add_due(
            sessions, vault, person.http, 125, provider_id=each, overdue=-timedelta(hours=1), tenants=TENANTS
        )
        for each in kinds
    }

    async def breaks(provider_id: str) -> None:
        await there[provider_id].breaks(*there[provider_id].ids, path="/", **kinds[provider_id])

    ends = await asyncio.gather(
        *(
            gone_through(ground, there[each].ids, lambda each=each: breaks(each), provider_id=each, rate=3)  # type: ignore[misc]
            for each in kinds
        )
    )
    told = await ground.story()

    assert set((await statuses(sessions)).values()) == {Status.ACTIVE}, told
    assert not await every(sessions, Transition)
    assert {each.provider_id for each in await ground.outages()} == set(kinds), told
    for end in ends:
        assert end.result.ended is Ended.HEALED
        assert all(each.done for each in await end.jobs.results()), told
        assert await ground.notes_written(end.jobs.written) == len(end.jobs.written)
    assert {each.outcome for each in await ground.parked()} == {"done"}
    assert all(each.released_at for each in await ground.journal())
    assert [await ground.queue_rate(each) for each in kinds] == [None] * 4


async def overloads(ground: Ground, notes: Sequence[OutageNote]) -> list[str]:
    """Steps in which the provider saw more than it was to, beyond what a queue lets go at once."""
    paced = [note for note in notes if note.percent and note.rate]
    found = []
    for note, after in pairwise(paced):
        begin, end, rate = note.at.timestamp(), after.at.timestamp(), note.rate or 0.0
        # The calls of the step before may still be on their way.
        calls = await ground.calls(begin + 0.5, end)
        if calls > rate * (end - begin) + rate + 3:
            found.append(f"{note.percent} %: {calls} calls in {end - begin:.1f} s at {rate:.2f}/s")
    return found
