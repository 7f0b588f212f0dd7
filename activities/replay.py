"""A replay's steps: begin, let a stage go, watch its outcomes, what a person asks, and the end. For every ledger."""

import asyncio
import time
from typing import Final
from uuid import UUID

from temporalio import activity

from integrations.db import replay, replay_plans
from integrations.db.session import Sessions
from integrations.domain.replay import (
    Approval,
    Begun,
    End,
    Outcome,
    Pace,
    PlanStatus,
    Release,
    ReplayRequest,
    Seen,
    Watch,
)

_LOOK: Final = 0.3
"""Seconds between two looks at the rows: what is waited for is done by the drain."""
_LONG: Final = 5 * 60.0
"""Seconds after which it ends by itself, so that the workflow shows how far it is."""
_SHOWN: Final = 10
"""Parts of a plan: after each the workflow shows how far it is."""


class ReplayActivities:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn(name="replay.begin")
    async def begin(self, request: ReplayRequest) -> Begun:
        """Check the plan and make it `running`. Raises StopError for one that is edited, expired, ended or unknown."""
        async with self._sessions.begin() as session:
            return await replay_plans.begin(session, request)

    @activity.defn(name="replay.release")
    async def release(self, wanted: Release) -> None:
        async with self._sessions.begin() as session:
            await replay.release(session, wanted)

    @activity.defn(name="replay.watch")
    async def watch(self, wanted: Watch) -> Seen:
        """Wait until every item up to the last that is released has an outcome, or there is something to be shown.

        That is: more failures than the stage may have, another status, another tenth of the plan, five minutes, or a
        worker that is being stopped.
        """
        began, first = time.monotonic(), await self._seen(wanted.plan_id)
        now = first
        while not _over(wanted, first, now):
            activity.heartbeat(f"{now.done:,} of {wanted.upto:,}")
            if activity.is_worker_shutdown() or time.monotonic() - began > _LONG:
                break
            await asyncio.sleep(_LOOK)
            now = await self._seen(wanted.plan_id)
        return now

    @activity.defn(name="replay.pause")
    async def pause(self, plan_id: UUID) -> None:
        async with self._sessions.begin() as session:
            await replay.pause(session, plan_id)

    @activity.defn(name="replay.resume")
    async def resume(self, plan_id: UUID) -> None:
        async with self._sessions.begin() as session:
            await replay.resume(session, plan_id)

    @activity.defn(name="replay.repace")
    async def repace(self, pace: Pace) -> None:
        async with self._sessions.begin() as session:
            await replay.repace(session, pace)

    @activity.defn(name="replay.approve")
    async def approve(self, approval: Approval) -> None:
        async with self._sessions.begin() as session:
            await replay_plans.approve(session, approval.plan_id, approval.by)

    @activity.defn(name="replay.end")
    async def end(self, wanted: End) -> Outcome:
        """Close the plan and count. Once it has ended: how it ended."""
        async with self._sessions.begin() as session:
            return await replay_plans.end(session, wanted)

    async def _seen(self, plan_id: UUID) -> Seen:
        async with self._sessions.begin() as session:
            return await replay.seen(session, plan_id)


def _over(wanted: Watch, first: Seen, now: Seen) -> bool:
    return (
        now.done >= wanted.upto
        or now.exceeded
        or PlanStatus(now.status).ended
        or now.status is not first.status
        or now.done * _SHOWN // wanted.count > first.done * _SHOWN // wanted.count
    )
