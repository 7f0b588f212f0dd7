"""How another platform's rate limits make an outage worse, as triggers. Of its list of pitfalls:

| W15 | a 5xx resets the adaptive throttle, a Retry-After on a 503 is ignored | here |
| W16 | a failure of the limit's store has a completed call made again | tests/job/test_limits_state.py |
"""

import asyncio
import time
from itertools import pairwise

import pytest

from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.outage import Limits
from tests.outage.conftest import HURRY
from tests.outage.ground import Ground, until
from tests.outage.test_scopes import connections

ASKED = 7
"""Seconds, longer than any wait of ours in this hurry."""


@pytest.mark.chaos
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("detector")
async def test_a_503_that_says_when_to_come_back_is_believed_and_lets_nothing_more_through(
    ground: Ground, sessions: Sessions, vault: Vault
) -> None:
    """W15: each 5xx leaves the brake where it is, and the next probe waits as long as the provider asks for."""
    assert HURRY.probe_most.total_seconds() < ASKED
    due = await connections(ground, sessions, vault)
    await ground.went_on_before(2)
    async with ground.traffic(due.ids, jobs=8, refreshes=0, capabilities=("notes.read",)) as jobs:
        await ground.breaks(kind="status", status=503, retry_after=ASKED)
        await until(ground.is_contained, "it is contained", 40)
        begun = time.time()
        await asyncio.sleep(2 * ASKED + 5)
        ended = time.time()
        probes = [at.timestamp() for at in await ground.probes() if at.timestamp() > begun]
        rate = await ground.queue_rate()
        await ground.heals()
        await until(ground.is_ramped, "everything is let through again", 90)
    await asyncio.wait_for(ground.outage().result(), 60)

    assert all(each.done for each in await jobs.results())
    assert len(probes) >= 2
    assert all(after - before >= ASKED - 0.5 for before, after in pairwise(probes)), await ground.story()
    # As much as at the beginning, after every 5xx: a trickle of two calls a second.
    assert rate == pytest.approx(Limits().trickle(2.0), rel=0.5)
    assert await ground.calls(begun + 1, ended) <= len(probes) + (ended - begun) * (rate or 0) + 3
