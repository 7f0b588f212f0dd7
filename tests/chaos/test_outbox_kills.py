"""A worker is killed again and again in the middle of a drain. Nothing is lost, doubled or out of order."""

import asyncio
import random

import pytest

from tests.chaos.backlog import Backlog
from tests.chaos.crew import NAMES, Crew
from tests.chaos.outbox_evidence import all_settled, reconciled

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
SETTINGS = {"RUNBOOK_OUTBOX_BATCH": "40", "RUNBOOK_OUTBOX_ATTEMPTS": "6"}
KILLS = 20
EVENTS = 20_000
TROUBLE = {150 + 307 * n: "poison" for n in range(12)} | {100 + 187 * n: "recovers" for n in range(20)}


async def test_one_of_two_workers_is_killed_twenty_times(backlog: Backlog, crew: Crew) -> None:
    await backlog.pace(0.008)
    await backlog.add(EVENTS, connections=200, trouble=TROUBLE)
    await crew.own()
    left, hits = EVENTS, 0

    for kill in range(KILLS):
        await asyncio.sleep(random.uniform(0, 2))  # noqa: S311 - a moment that nobody chose
        # Each second time one that has dispatchers: the others would go on for long with those that it had.
        victim = random.choice(NAMES if kill % 2 else await crew.busy())  # noqa: S311 - the same
        hits += bool(await crew.dispatchers_of(victim))
        await crew.kill(victim)
        left = await backlog.pending()
        assert left, f"nothing was pending any more after {kill} kills"
        await crew.bring_back(victim)
    await backlog.pace(0)
    # What was killed between its commit and the start of its workflow.
    await reconciled(backlog)

    await all_settled(backlog, crew, within=150)
    assert hits >= KILLS / 2
    assert left < EVENTS - 500, "next to nothing was drained between the kills"
