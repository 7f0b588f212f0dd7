"""A worker is killed again and again in the middle of a replay. Each item has one outcome, and one projection."""

import asyncio
import random
from typing import Final

import pytest

from integrations import temporal
from integrations.db import replay, replay_plans
from integrations.domain.filters import Filters
from integrations.domain.replay import Outcome, PlanStatus, ReplayRequest
from tests.chaos.backlog import Backlog
from tests.chaos.crew import Crew
from tests.chaos.outbox_evidence import all_settled, reconciled

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]
SETTINGS = {"RUNBOOK_OUTBOX_BATCH": "40"}
KILLS = 6
EVENTS = 6_000
RATE = 300
# As if both projectors had refused each of them.
_KILL: Final = (
    "DELETE FROM service_activity_entries RETURNING 1",
    "DELETE FROM service_notification_requests RETURNING 1",
    "UPDATE service_projector_ledger SET status = 'dead', cause = 'Check: refused', history = '[]' RETURNING 1",
    "UPDATE service_lifecycle_outbox SET status = 'dead' RETURNING 1",
)


async def test_goes_on_through_kills_of_its_workers_and_the_end_of_its_workflow(backlog: Backlog, crew: Crew) -> None:
    sessions, client = backlog.ground.platform.sessions, backlog.ground.platform.temporal
    await backlog.add(EVENTS, connections=100)
    await all_settled(backlog, crew)
    for statement in _KILL:
        assert len(await backlog.ground.rows(statement)) >= EVENTS
    async with sessions.begin() as session:
        plan = await replay_plans.make(session, "outbox", Filters(), by="ada", reason="fixed")
    request = ReplayRequest(
        plan_id=plan.plan_id, ledger="outbox", rate=RATE, by="ada", reason="fixed", approve_above=plan.count
    )
    handle = await temporal.start_replay(client, request)
    moved = []

    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(1, 3))  # noqa: S311 - a moment that nobody chose
        victim = await crew.busiest()
        await crew.kill(victim)
        async with sessions.begin() as session:
            moved.append((await replay.seen(session, plan.plan_id)).done)
        await crew.bring_back(victim)
    await handle.terminate("by hand")
    await reconciled(backlog)

    async with asyncio.timeout(150):
        while (await row(backlog))["status"] == PlanStatus.RUNNING:
            await asyncio.sleep(0.2)
    outcome = Outcome.model_validate((await row(backlog))["outcome"])
    assert (outcome.status, outcome.delivered, outcome.count) == (PlanStatus.DONE, plan.count, 2 * EVENTS)
    assert 0 < moved[-1] < plan.count, "the kills fell inside"
    await all_settled(backlog, crew)


async def row(backlog: Backlog) -> dict[str, object]:
    [found] = await backlog.ground.rows("SELECT status, outcome FROM service_replay_plans")
    return dict(found)
