"""A replay's rows and its drain, in memory: what is released has outcomes at the next look, unless it is paused."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from temporalio import activity

from activities.replay import ReplayActivities
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


class FakeReplay(ReplayActivities):
    def __init__(
        self, count: int = 1000, *, dead: Sequence[int] = (), pauses_at: int = 0, refuses: Exception | None = None
    ) -> None:
        """`dead`: the items that fail again. `pauses_at`: the first look at the stage up to there waits for a pause."""
        self.count = count
        self._dead = dead
        self._pauses_at = pauses_at
        self._refuses = refuses
        self.status = PlanStatus.PLANNED
        self.failures = 0
        self.done = 0
        self.approved_by = ""
        self.rate = 0
        self.released: list[Release] = []
        self.asked: list[str] = []
        self.watches = 0
        self.outcome: Outcome | None = None

    @property
    def steps(self) -> list[Callable[..., Any]]:
        return [
            self.begin,
            self.release,
            self.watch,
            self.pause,
            self.resume,
            self.repace,
            self.approve,
            self.end,
        ]

    @activity.defn(name="replay.begin")
    async def begin(self, request: ReplayRequest) -> Begun:
        if self._refuses is not None:
            raise self._refuses
        if self.status is PlanStatus.PLANNED:
            self.status = PlanStatus.RUNNING
        paused = self.status is PlanStatus.PAUSED
        return Begun(
            count=self.count, filters="--status dead", approved_by=self.approved_by, rate=self.rate, paused=paused
        )

    @activity.defn(name="replay.release")
    async def release(self, wanted: Release) -> None:
        self.released.append(wanted)
        self.rate = self.rate or wanted.rate
        self.failures = self._dead_upto(self.done) + wanted.failures

    @activity.defn(name="replay.watch")
    async def watch(self, wanted: Watch) -> Seen:
        self.watches += 1
        if wanted.upto == self._pauses_at:
            self._pauses_at = 0
            while self.status is PlanStatus.RUNNING:
                activity.heartbeat()
                await asyncio.sleep(0.01)
        if self.status is PlanStatus.RUNNING:
            self.done = wanted.upto
        dead = self._dead_upto(self.done)
        return Seen(status=self.status, delivered=self.done - dead, dead=dead, exceeded=dead > self.failures)

    @activity.defn(name="replay.pause")
    async def pause(self, plan_id: UUID) -> None:
        self.asked.append("pause")
        self.status = PlanStatus.PAUSED

    @activity.defn(name="replay.resume")
    async def resume(self, plan_id: UUID) -> None:
        self.asked.append("resume")
        self.status = PlanStatus.RUNNING

    @activity.defn(name="replay.repace")
    async def repace(self, pace: Pace) -> None:
        self.asked.append(f"repace {pace.rate}")
        self.rate = pace.rate

    @activity.defn(name="replay.approve")
    async def approve(self, approval: Approval) -> None:
        self.asked.append(f"approve {approval.by}")
        self.approved_by = approval.by

    @activity.defn(name="replay.end")
    async def end(self, wanted: End) -> Outcome:
        self.status = wanted.status
        dead = self._dead_upto(self.done)
        self.outcome = Outcome(
            status=wanted.status,
            count=self.count,
            delivered=self.done - dead,
            dead=dead,
            untouched=self.count - self.done,
        )
        return self.outcome

    def _dead_upto(self, upto: int) -> int:
        return sum(1 for n in self._dead if n <= upto)
