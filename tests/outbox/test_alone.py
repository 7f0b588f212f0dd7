"""An event that may end the process is tried alone: nobody else is in hand then who would be suspected."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.testing import ActivityEnvironment

from activities.alone import _LONG, alone
from activities.outbox import OutboxActivities
from integrations.db.dedicated import dedicated, take
from integrations.db.outbox_flow import Flow
from integrations.db.projectors import PROJECTORS
from integrations.db.session import Sessions
from integrations.domain.outbox import DeliveryStep, Retrying
from tests.outbox.events import add_events, refused, statuses

ENTRIES = "service_activity_entries"


async def test_it_waits_for_its_turn_and_no_other_does(
    engine: AsyncEngine, sessions: Sessions, database_url: str
) -> None:
    await add_events(engine, 2, connections=2)
    async with refused(engine, "true", ENTRIES), dedicated(database_url, "test") as owner:
        assert await take(owner, "outbox", [0]) == {0}
        suspect, other = (await Flow(PROJECTORS).batch(owner, 0, 100)).failed
    steps = OutboxActivities(sessions, database_url, Retrying(attempts=3))

    async def tried(event_id: object, *, alone: bool) -> str:
        step = DeliveryStep(event_id=event_id, projector="activity", alone=alone)  # type: ignore[arg-type]
        return (await ActivityEnvironment().run(steps.deliver, step)).status

    async with alone():
        waits = asyncio.create_task(tried(suspect.event_id, alone=True))
        assert await tried(other.event_id, alone=False) == "delivered"
        await asyncio.sleep(0.2)
        assert not waits.done()

    assert await waits == "delivered"
    assert await statuses(engine) == {"delivered": 2}


async def test_nobody_waits_for_one_that_hangs() -> None:
    """What ends a process does so at once."""
    async with alone():
        began = asyncio.get_running_loop().time()
        for _ in range(20):
            async with alone():
                took = asyncio.get_running_loop().time() - began
        assert took < 1 + _LONG

    # And the next one is waited for again.
    async def another() -> None:
        async with alone():
            pass

    async with alone():
        waits = asyncio.create_task(another())
        await asyncio.sleep(0.1)
        assert not waits.done()
    await waits
