"""A gate in front of what steps lock: closed, it holds one of them still there; those before it go by one at a time."""

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from tests.chaos.ground import Ground
from tests.chaos.holds import Lock
from tests.chaos.waiting import until

if TYPE_CHECKING:
    import asyncpg


class Place(StrEnum):
    """What is locked, of the provider `simulator`."""

    OUTAGE = "SELECT FROM service_outages WHERE provider_id = 'simulator' AND closed_at IS NULL FOR UPDATE"
    """Whoever writes of the outage, or puts a brake on for it."""
    QUEUE = "SELECT pg_advisory_xact_lock(hashtextextended('brakes simulator', 0))"
    """Between the journal and the queue, when a brake is put on or changed."""
    LIFTED = "LOCK TABLE service_would_have_done IN ACCESS EXCLUSIVE MODE"
    """Between the queue and the journal, when brakes are released."""
    PARKED = "SELECT FROM service_parked_jobs WHERE provider_id = 'simulator' FOR UPDATE"
    """Between the word to a parked job that it goes on, and its row."""


class Gate:
    def __init__(self, ground: Ground, place: Place, holder: "asyncpg.Connection") -> None:
        self._ground = ground
        self._place = place
        self._holder = holder

    @classmethod
    async def closed(cls, ground: Ground, place: Place) -> Self:
        return cls(ground, place, await _asking(ground, place))

    async def is_reached_by(self, workflow_id: str, step: str) -> None:
        """Let others by until this step of a workflow stands here. `step`: how its activity's id begins."""
        handle = self._ground.platform.temporal.get_workflow_handle(workflow_id)
        while True:
            await Lock(self._holder).is_waited_for()
            described = await handle.describe()
            if any(each.activity_id.startswith(step) for each in described.raw_description.pending_activities):
                return
            await self._let_one_by()

    def open(self) -> None:
        self._holder.terminate()

    async def _let_one_by(self) -> None:
        """Whoever waits is served before us, for whom the gate is closed again."""
        behind = await self._ground.connect()
        pid = behind.get_server_pid()
        await behind.execute("BEGIN")
        closing = asyncio.create_task(behind.execute(self._place.value))

        async def queues() -> bool:
            return bool(
                await self._holder.fetchval("SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted", pid)
            )

        await until("the gate is about to be closed behind the first who waits", queues)
        self._holder.terminate()
        await closing
        self._holder = behind


async def _asking(ground: Ground, place: Place) -> "asyncpg.Connection":
    holder = await ground.connect()
    await holder.execute("BEGIN")
    await holder.execute(place.value)
    return holder
