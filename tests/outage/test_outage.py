"""A provider's outage as production has it: real traffic, a real provider that breaks, and who is harmed by it."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from integrations.db.session import Sessions
from integrations.db.tables import Transition
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.outage import Brake, Ended
from tests.factories import every
from tests.outage.ground import Ground, until
from tests.providers.person import Person
from tests.refresh.ground import add_due, statuses

TENANTS = [f"acme-{number}" for number in range(5)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "throttle", "retry_after": 1},
        {"kind": "hang"},
        {"kind": "reset"},
        {"kind": "html", "status": 502},
    ],
    ids=lambda fault: fault["kind"],
)
async def test_nobody_is_demoted_and_nothing_is_lost(
    ground: Ground, detector: None, sessions: Sessions, vault: Vault, person: Person, fault: dict[str, Any]
) -> None:
    """500 connections, half a minute of it on everything. What is looked at is what the provider and the rows say."""
    due = await add_due(sessions, vault, person.http, 500, overdue=-timedelta(hours=1), tenants=TENANTS)
    async with ground.traffic(due.ids, jobs=5, refreshes=6, patience=timedelta(seconds=15)) as jobs:
        await asyncio.sleep(15)
        broken_at = time.time()
        before = await ground.calls(broken_at - 10, broken_at) / 10
        await ground.breaks(**fault)

        async def is_contained() -> bool:
            return any(each.brake == Brake.QUEUE for each in await ground.journal())

        contained_after = await until(is_contained, "the provider is contained", 30)
        contained_at = time.time()
        await asyncio.sleep(25)
        healed_at = time.time()
        await ground.heals()
        try:
            result = await asyncio.wait_for(ground.outage().result(), 60)
            results = await jobs.results()
        finally:
            for note in await ground.notes():
                print(note.at.strftime("%H:%M:%S"), note.step, note.what, note.percent, note.rate)
            d = await ground.outage().describe()
            for each in d.raw_description.pending_activities:
                print(each.activity_id, each.activity_type.name, each.attempt, each.last_failure.message)

    print(fault, "before", before, "contained after", contained_after)
    under = await ground.calls(contained_at + 2, healed_at) / (healed_at - contained_at - 2)
    print("under", under, under / before, result)
    for note in await ground.notes():
        print(note.at.strftime("%H:%M:%S"), note.step, note.what, note.percent, note.rate)
    assert {status for status in (await statuses(sessions)).values()} == {Status.ACTIVE}
    assert not await every(sessions, Transition)
    assert all(each.done for each in results)
    assert await ground.notes_written(jobs.written) == len(jobs.written)
    assert result.ended is Ended.HEALED
    assert await ground.queue_rate() is None
    assert all(each.released_at for each in await ground.journal())
