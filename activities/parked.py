"""Parked jobs: written down, told to go on in batches, and settled with what became of them."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client

from activities.reconcile_kit import is_running
from activities.run import this_run
from integrations import temporal
from integrations.db import parked
from integrations.db.session import Sessions
from integrations.domain.parked import BY_HAND, Parked, Parking
from integrations.domain.run import Run

_AT_ONCE: Final = 20
"""Signals that are under way at the same time."""
_RECONCILE: Final = "reconcile"


class ParkedActivities:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn(name="job.park")
    async def park(self, parking: Parking) -> None:
        """Write down that a job waits for its provider. Safe to repeat."""
        async with self._sessions.begin() as session:
            await parked.park(session, this_run(), parking)

    @activity.defn(name="job.unparked")
    async def unparked(self, outcome: str) -> None:
        """Write down how a job ended that was parked. Safe to repeat."""
        async with self._sessions.begin() as session:
            await parked.settle(session, this_run(), outcome)


async def release(
    client: Client,
    sessions: Sessions,
    provider_id: str,
    most: int,
    *,
    by: str,
    before: datetime | None = None,
    forgotten_only: bool = False,
) -> int:
    """Tell the next parked jobs of a provider to go on, those first that wait longest. How many were told.

    `before`: only what was parked before that. `forgotten_only`: only what no open outage looks after.

    First the signals, then their rows: whoever dies in between has some of them told twice, which a job that goes on
    does not mind. One that was ended by hand is settled so. Raises RPCError when Temporal does not answer: those that
    were told are written down all the same.
    """
    async with sessions.begin() as session:
        rows = await parked.next_of(session, provider_id, most, before, forgotten_only=forgotten_only)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def told(job: Parked) -> bool:
        async with gate:
            return await temporal.signal_go_on(client, Run(workflow_id=job.workflow_id, run_id=job.run_id))

    ends = await asyncio.gather(*(told(job) for job in rows), return_exceptions=True)
    heard = dict(zip((job.workflow_id for job in rows), ends, strict=True))
    async with sessions.begin() as session:
        await parked.released(session, [job for job in rows if heard[job.workflow_id] is True], by=by)
        await _ended(session, [job for job in rows if heard[job.workflow_id] is False])
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return sum(end is True for end in ends)


async def look_after(client: Client, sessions: Sessions, beat: Callable[[], None]) -> int:
    """Reconcile's part: tell those to go on whom no open outage looks after, and settle what was ended by hand.

    How many were told. `beat` is called after each provider.
    """
    async with sessions.begin() as session:
        await parked.forget(session)
        providers = await parked.forgotten(session)
    count = 0
    for provider_id in providers:
        count += await release(client, sessions, provider_id, parked.BATCH, by=_RECONCILE, forgotten_only=True)
        beat()
    async with sessions.begin() as session:
        late = await parked.going_on(session)
    gone = [job for job in late if not await is_running(client, job.workflow_id, job.run_id)]
    async with sessions.begin() as session:
        await _ended(session, gone)
    return count


async def _ended(session: AsyncSession, jobs: Sequence[Parked]) -> None:
    """What ends by itself is settled by its workflow before that."""
    for job in jobs:
        await parked.settle(session, Run(workflow_id=job.workflow_id, run_id=job.run_id), BY_HAND)
