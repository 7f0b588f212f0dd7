"""The detector beside the production's workers, on a platform that only looks on: what it sees, and what it touches."""

from datetime import timedelta

import pytest

from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.automation import FailureMode
from integrations.domain.outage import DETECTOR, Ended
from tests.automated import pause
from tests.outage.conftest import HURRY
from tests.outage.ground import Ground, until
from tests.providers.person import Person
from tests.refresh.ground import add_due

_LATE = 2.0
"""Seconds: calls wait half a second to be written, and this machine has other things to do."""


@pytest.mark.usefixtures("detector")
async def test_a_paused_platform_sees_an_outage_within_two_looks_and_its_end_and_touches_nothing(
    ground: Ground, sessions: Sessions, vault: Vault, person: Person
) -> None:
    due = await add_due(sessions, vault, person.http, 30, overdue=-timedelta(hours=1), tenants=["a", "b", "c"])
    await pause(sessions, FailureMode.OUTAGE)

    async with ground.traffic(due.ids, jobs=20, refreshes=0) as jobs:
        await until(lambda: answered(ground, 60), "traffic flows")
        await ground.breaks(kind="status", status=503)
        await until(ground.outages, "it is seen", 2 * HURRY.every.total_seconds() + _LATE)
        [seen] = await ground.outages()
        so_far = len(await ground.requests())
        await until(lambda: answered(ground, so_far + 60), "traffic goes on")
        await ground.heals()
        await until(lambda: closed(ground), "it is over")
    # What is still under way would be another test's.
    results = await jobs.results()

    assert (seen.provider_id, seen.observed, seen.opened_by) == ("simulator", True, DETECTOR)
    [row] = await ground.outages()
    assert (row.id, row.ended, row.closed_by) == (seen.id, Ended.PASSED, DETECTOR)
    assert await ground.journal() == []
    assert await ground.queue_rate() is None
    assert all(each.done for each in results)


async def answered(ground: Ground, count: int) -> bool:
    return len(await ground.requests()) >= count


async def closed(ground: Ground) -> bool:
    return all(each.closed_at for each in await ground.outages())
