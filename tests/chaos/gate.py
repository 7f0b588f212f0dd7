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
    async def closed(cls, ground: Ground, place: Place, before: Self | None = None) -> Self:
        """`before`: a gate that is opened once nothing can go by this one. At the same place, one who waits there."""
        holder = await ground.connect()
        pid = holder.get_server_pid()
        await holder.execute("BEGIN")
        closing = asyncio.create_task(holder.execute(place.value))
        if before is not None:
            waits = "SELECT count(*) FROM pg_locks WHERE pid = :pid AND NOT granted"

            async def is_next() -> bool:
                return closing.done() or bool(await ground.one(waits, pid=pid))

            await until("the gate is closed, or about to be", is_next)
            before.open()
        await closing
        return cls(ground, place, holder)

    async def is_reached_by(self, workflow_id: str, step: str) -> None:
        """Let others by until this step of a workflow stands here. `step`: how its activity's id begins."""
        handle = self._ground.platform.temporal.get_workflow_handle(workflow_id)
        while True:
            await Lock(self._holder).is_waited_for()
            described = await handle.describe()
            if any(each.activity_id.startswith(step) for each in described.raw_description.pending_activities):
                return
            self._holder = (await Gate.closed(self._ground, self._place, self))._holder

    def open(self) -> None:
        self._holder.terminate()
