"""Somebody dies between two commits, or of an event itself. That one event is in trouble, and no other."""

import pytest
from temporalio.service import RPCError, RPCStatusCode

from tests.chaos.backlog import Backlog
from tests.chaos.crew import NAMES, Crew
from tests.chaos.ground import Victim
from tests.chaos.outbox_evidence import all_settled, reconciled
from tests.chaos.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]
SETTINGS = {"RUNBOOK_OUTBOX_BATCH": "40", "RUNBOOK_OUTBOX_ATTEMPTS": "2"}
_RETRYING = """
SELECT projector, event_id FROM service_projector_ledger WHERE status = 'retrying'"""
_HANGS = """
SELECT application_name AS who FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND NOT EXISTS (
  -- Its other projection, which is well, is under way at that moment.
  SELECT FROM service_projector_ledger WHERE projector = 'notification' AND status = 'retrying')"""
_BURIED = """
SELECT count(*) FROM service_projector_ledger AS item JOIN service_lifecycle_outbox AS event USING (event_id)
WHERE item.status = 'dead' AND event.name = 'ends the process'"""


async def has_a_workflow(backlog: Backlog, projector: str, event_id: object) -> bool:
    handle = backlog.ground.platform.temporal.get_workflow_handle(f"outbox:{projector}:{event_id}")
    try:
        await handle.describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def test_the_worker_dies_between_the_settle_and_the_start_of_the_delivery(backlog: Backlog, crew: Crew) -> None:
    await crew.own()

    await backlog.ground.kill(Victim.TEMPORAL)
    await backlog.add(100, connections=20, trouble={3: "poison", 4: "poison", 17: "poison"})
    await backlog.is_down_to(0)
    for name in NAMES:
        await crew.kill(name)
    lost = await backlog.ground.rows(_RETRYING)
    await backlog.ground.bring_back(Victim.TEMPORAL)
    for name in NAMES:
        await crew.bring_back(name)

    assert len(lost) == 3
    assert [await has_a_workflow(backlog, **pair) for pair in lost] == [False] * 3
    assert await backlog.ground.rows(_RETRYING) == lost
    await reconciled(backlog)
    await all_settled(backlog, crew)
    assert [await has_a_workflow(backlog, **pair) for pair in lost] == [True] * 3


async def test_an_event_that_ends_the_session_of_whoever_projects_it(backlog: Backlog, crew: Crew) -> None:
    # With some poison before it, whose batch is done again in halves: it ends the session there too.
    poison = dict.fromkeys(range(41, 53), "poison")
    await backlog.add(600, connections=30, trouble=poison | {60: "ends the session"})

    await all_settled(backlog, crew)

    assert backlog.ground.died() == {}


async def test_an_event_that_ends_the_process_of_whoever_projects_it(backlog: Backlog, crew: Crew) -> None:
    """It hangs in the database, and its worker is killed each time it is seen there: by a watchdog, or for memory."""
    one, other = NAMES
    await crew.kill(other)
    await backlog.add(600, connections=30, trouble={60: "ends the process"})
    kills = 0

    async def lets_go() -> bool:
        return not await backlog.ground.rows(_HANGS)

    async def is_buried() -> bool:
        nonlocal kills
        if hanging := await backlog.ground.rows(_HANGS):
            kills += 1
            await crew.kill(one)
            # A dispatcher's would keep its partitions, and commit what it has once the hanging ends: it ends at once.
            own = hanging[0]["who"].startswith("runbook outbox dispatcher")
            await until("its session ends with it", lets_go, within=10 if own else 40)
            await crew.bring_back(one)
        return bool(await backlog.ground.one(_BURIED))

    # Each kill costs its dispatcher a longer wait, up to half a minute, by the drain's policy.
    await until("it is given up", is_buried, within=300)

    await all_settled(backlog, crew)
    # Among others first, alone in the end, and then in its own workflow.
    assert kills >= 3
    await crew.bring_back(other)
