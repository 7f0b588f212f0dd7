"""Postgres, Temporal or a dispatcher's owner goes away in the middle of a drain and comes back. The drain goes on."""

import os
import signal

import pytest
from temporalio.client import WorkflowExecutionStatus

from tests.chaos.backlog import Backlog
from tests.chaos.crew import NAMES, Crew
from tests.chaos.ground import Ground, Victim
from tests.chaos.outbox_evidence import all_settled, reconciled
from tests.chaos.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(200)]
SETTINGS = {"RUNBOOK_OUTBOX_BATCH": "40", "RUNBOOK_OUTBOX_ATTEMPTS": "3"}
TROUBLE = {200: "poison", 300: "recovers", 900: "poison"}
DISPATCHERS = [f"outbox-dispatch:{number}" for number in range(4)]


async def begun(backlog: Backlog, crew: Crew, events: int = 3000) -> None:
    """A drain that has begun, and has much left to do."""
    await backlog.pace(0.01)
    await backlog.add(events, connections=60, trouble=TROUBLE)
    await crew.own()
    await backlog.is_down_to(events - 200)


async def ended(backlog: Backlog, crew: Crew) -> None:
    assert await backlog.pending() > 500, "the drain was over before"
    await backlog.pace(0)
    await all_settled(backlog, crew)
    assert backlog.ground.died() == {}


async def have_met_the_outage(ground: Ground) -> None:
    """Each dispatcher has found no database, and tries again by its policy."""

    async def probe() -> bool:
        found = [await ground.platform.temporal.get_workflow_handle(name).describe() for name in DISPATCHERS]
        failed = [each.last_failure.message for one in found for each in one.raw_description.pending_activities]
        return len(failed) == len(DISPATCHERS) and all("Postgres" in message for message in failed)

    await until("every dispatcher's attempt has failed", probe)


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_postgres_is_away(backlog: Backlog, crew: Crew, how: str) -> None:
    await begun(backlog, crew)

    await (backlog.ground.stop_postgres() if how == "stopped" else backlog.ground.kill_postgres())
    await have_met_the_outage(backlog.ground)
    await backlog.ground.bring_postgres_back()

    await ended(backlog, crew)


async def test_temporal_is_away_and_the_flow_goes_on_meanwhile(backlog: Backlog, crew: Crew) -> None:
    await begun(backlog, crew, 6000)

    await backlog.ground.stop_temporal()
    # Longer than a heartbeat is waited for: each dispatcher is given to somebody anew when it is back.
    await backlog.is_down_to(await backlog.pending() - 2500)
    await backlog.ground.bring_back(Victim.TEMPORAL)

    await reconciled(backlog)
    await ended(backlog, crew)


async def test_a_dispatcher_is_terminated_by_hand_and_reconcile_starts_it_again(backlog: Backlog, crew: Crew) -> None:
    handle = backlog.ground.platform.temporal.get_workflow_handle(DISPATCHERS[1])
    await begun(backlog, crew)

    await handle.terminate("somebody pressed the wrong button")
    await crew.own(12)
    await reconciled(backlog)

    await ended(backlog, crew)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING


async def test_a_worker_is_frozen_and_wakes_to_partitions_that_are_not_its_own(backlog: Backlog, crew: Crew) -> None:
    await begun(backlog, crew, 6000)
    frozen = await crew.busiest()
    (other,) = set(NAMES) - {frozen}
    sessions = await crew.sessions_of(frozen)
    assert sessions

    os.kill(crew.processes[frozen].pid, signal.SIGSTOP)
    try:
        # The server has ended its sessions, or their locks would not be free.
        await crew.own(but=sessions, within=120)
    finally:
        os.kill(crew.processes[frozen].pid, signal.SIGCONT)

    await ended(backlog, crew)
    # It woke up sane: alone, it drains what comes.
    await crew.kill(other)
    await backlog.add(200, connections=20)
    await all_settled(backlog, crew)
    await crew.bring_back(other)
