"""Replays: what is chosen, the frozen plan, and how far it may go. The same for every ledger.

planned ──▶ running ⇄ paused          stages: one item, ten, one percent, the rest; each waits for its outcomes
   │           ├──▶ done              every item has an outcome
   │           ├──▶ stopped           more failed again than the budget allows; the rest is untouched
   └ expires   └──▶ cancelled         a person ended it; the rest is untouched
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from integrations.domain.message import Message
from integrations.domain.replay_pace import RATE, Budget

GOOD_FOR: Final = timedelta(hours=1)
"""A plan is run soon or made anew: what it froze goes stale."""


class PlanStatus(StrEnum):
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    STOPPED = "stopped"
    """The budget for failures was exceeded."""
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in {PlanStatus.DONE, PlanStatus.STOPPED, PlanStatus.CANCELLED}


@dataclass(frozen=True, slots=True)
class Window:
    """What may be replayed of a plan in one partition by now."""

    plan_id: UUID
    part: int
    upto: int
    """The last item that the pace allows."""


class ReplayRequest(Message):
    plan_id: UUID
    ledger: str
    rate: int = RATE
    budget: Budget = Budget()
    by: str
    reason: str
    approve_above: int = 10_000
    """A plan of more items needs another person's word."""

    @property
    def key(self) -> str:
        return f"replay:{self.plan_id}"


class Planned(Message):
    """A plan as it was made: a replay of it does exactly this."""

    plan_id: UUID
    ledger: str
    count: int
    hash: str
    histogram: Mapping[str, Mapping[str, int]]
    """How many by cause, by age and by provider."""
    expires_at: datetime


class Begun(Message):
    """What the workflow has to know of a plan."""

    count: int
    filters: str
    approved_by: str = ""
    rate: int = 0
    """Its pace, when it went on before."""
    paused: bool = False


class Release(Message):
    """The drain may take items up to this one, at this pace."""

    plan_id: UUID
    upto: int
    rate: int
    failures: int
    """More that fail again, among those that are released now, close it."""


class Watch(Message):
    """Wait for the outcomes of the items up to this one."""

    plan_id: UUID
    upto: int
    count: int


class Pace(Message):
    plan_id: UUID
    rate: int


class Seen(Message):
    """How far a plan is."""

    status: PlanStatus
    delivered: int = 0
    skipped: int = 0
    dead: int = 0
    exceeded: bool = False
    """More failed again than the stage may have."""

    @property
    def done(self) -> int:
        """Items that have an outcome."""
        return self.delivered + self.skipped + self.dead


class Said(Message):
    """Who wants it, and why."""

    by: str
    reason: str


class Approval(Said):
    plan_id: UUID


class Repace(Said):
    rate: int
    """Items a second."""


class End(Message):
    plan_id: UUID
    ledger: str
    status: PlanStatus


class Outcome(Message):
    """How a plan ended. All but `late` make up its count."""

    status: PlanStatus
    count: int
    delivered: int = 0
    skipped: int = 0
    """Delivered already, or in the flow again: nothing was done."""
    dead: int = 0
    """Failed again."""
    untouched: int = 0
    late: int = 0
    """Match the filters by now and were not in the plan."""

    @property
    def good(self) -> bool:
        return self.status is PlanStatus.DONE and not self.dead

    def __str__(self) -> str:
        told = f"{self.status.value}: {self.delivered:,} delivered, {self.skipped:,} skipped, {self.dead:,} dead again"
        rest = f", {self.untouched:,} untouched" if self.untouched else ""
        late = f"; {self.late:,} more match the filters by now" if self.late else ""
        return f"{told}{rest} of {self.count:,}{late}"
