"""Planning a replay and running it, as a person does it: shown, asked about, followed. The same for every ledger."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from temporalio.client import WorkflowFailureError, WorkflowHandle

from integrations import temporal
from integrations.db import replay as progress
from integrations.db import replay_plans
from integrations.db.ledger_tables import ReplayPlan
from integrations.db.replay_plans import Judged
from integrations.domain.errors import StopError
from integrations.domain.filters import Filters
from integrations.domain.replay import Outcome, PlanStatus, ReplayRequest
from integrations.domain.replay_pace import Budget
from integrations.settings import Settings
from starters.reach import Reach, warn_without_worker
from starters.shell import FAILED, USAGE, as_json, err, fail, fields, moment, out
from workflows.queues import DRAIN, WORKFLOWS

DEDUPE: Final = {
    "outbox": "the projector ledger recognises what was projected: a replay of it is a no-op",
    "notifications": "the idempotency key of a webhook and the Message-ID of a mail stay the same; apprise has none",
    "webhooks": "handlers are told that it is a replay; an event's id is its delivery's: none comes twice",
}
"""Whether each ledger's receivers know a replay when they see one."""
Judging = Callable[[Settings], Judged]
"""What is to be known of each item of a plan, by what the settings say now. Raises WrongUsageError."""
_LOOK: Final = 0.5
"""Seconds between two looks at the rows, for the bar."""


@dataclass(frozen=True, slots=True)
class Made:
    """A plan for people."""

    plan: UUID
    ledger: str
    count: int
    hash: str
    histogram: dict[str, dict[str, int]]
    filters: str
    expires_at: datetime

    def run(self, rate: int) -> str:
        return f"runbook {self.ledger} replay {self.plan} --rate {rate}/s"

    def told(self, rate: int) -> dict[str, Any]:
        return {
            "plan": self.plan,
            "count": self.count,
            "filters": self.filters,
            "histogram": {name: dict(_sorted(name, bars)) for name, bars in self.histogram.items()},
            "hash": self.hash,
            "seconds": _seconds(self.count, rate),
            "dedupe": DEDUPE[self.ledger],
            "expires_at": self.expires_at,
            "run": self.run(rate),
        }


@dataclass(frozen=True, slots=True)
class Run:
    """How a plan is to be run."""

    ledger: str
    rate: int
    budget: Budget
    by: str
    reason: str
    dry_run: bool
    yes: bool
    wait: bool
    json: bool
    judging: Judging | None = None


async def make(
    reach: Reach, ledger: str, filters: Filters, *, by: str, reason: str, judging: Judging | None = None
) -> Made:
    """A new plan. Raises StopError when nothing matches."""
    judged = judging(reach.settings) if judging else None
    async with reach.sessions.begin() as session:
        planned = await replay_plans.make(session, ledger, filters, by=by, reason=reason, judged=judged)
        return _made(await replay_plans.find(session, planned.plan_id))


def show_plan(made: Made, rate: int) -> None:
    lines: list[tuple[str, object]] = [("plan", made.plan), ("items", f"{made.count:,}"), ("filters", made.filters)]
    for name, bars in made.histogram.items():
        first, *others = [f"{count:>9,}  {value}" for value, count in _sorted(name, bars)]
        lines += [(f"by {name}", first), *(("", other) for other in others)]
    lines += [
        ("takes", f"about {timedelta(seconds=_seconds(made.count, rate))} at {rate:,}/s, live traffic first"),
        ("repeated", DEDUPE[made.ledger]),
        ("good until", moment(made.expires_at)),
    ]
    fields(lines)
    out.print(f"\nTo run it:\n\n  {made.run(rate)}\n", markup=False)


async def replayed(reach: Reach, chosen: UUID | Filters, wanted: Run) -> None:
    """Run a plan, or one that filters make, and follow it. Joins a replay that is under way."""
    if isinstance(chosen, Filters):
        made = await make(reach, wanted.ledger, chosen, by=wanted.by, reason=wanted.reason, judging=wanted.judging)
        status = PlanStatus.PLANNED
    else:
        made, status = await _known(reach, chosen, wanted)
    if wanted.dry_run:
        as_json(made.told(wanted.rate)) if wanted.json else show_plan(made, wanted.rate)
        err.print("Dry run: nothing was replayed.")
        return
    if status is PlanStatus.PLANNED:
        _agreed(made, wanted)
    request = ReplayRequest(
        plan_id=made.plan,
        ledger=wanted.ledger,
        rate=wanted.rate,
        budget=wanted.budget,
        by=wanted.by,
        reason=wanted.reason,
        approve_above=reach.settings.approve_above,
    )
    client = await reach.client()
    handle = await temporal.start_replay(client, request)
    if status is not PlanStatus.PLANNED:
        err.print(f"It is under way already ({status.value}), at the pace that it has: joined.", markup=False)
    await warn_without_worker(client, WORKFLOWS, DRAIN)
    if made.count > request.approve_above and status is PlanStatus.PLANNED:
        err.print(f"{made.count:,} items need another person's word: runbook replays approve {made.plan}", markup=False)
    if not wanted.wait:
        started = {"workflow_id": handle.id, "plan": made.plan}
        as_json(started) if wanted.json else out.print(f"Started: {handle.id}. {_come_back(made)}", markup=False)
        return
    tell(await _followed(reach, handle, made), json=wanted.json)


def tell(outcome: Outcome, *, json: bool) -> None:
    """How it ended. Exit code 1 when that was not well."""
    as_json(outcome) if json else out.print(str(outcome), markup=False)
    if not outcome.good:
        raise typer.Exit(FAILED)


async def _known(reach: Reach, plan_id: UUID, wanted: Run) -> tuple[Made, PlanStatus]:
    """A plan that can be run, or runs. One that has ended says how, and ends the command."""
    async with reach.sessions.begin() as session:
        plan = await replay_plans.find(session, plan_id)
        if plan.ledger != wanted.ledger:
            raise StopError(f"plan {plan.id} is of another ledger: runbook {plan.ledger} replay {plan.id}")
        status = PlanStatus(plan.status)
        if status.ended:
            err.print(f"It was run before, until {moment(plan.ended_at) if plan.ended_at else '?'}.", markup=False)
            tell(Outcome.model_validate(plan.outcome), json=wanted.json)
            raise typer.Exit
        if status is PlanStatus.PLANNED:
            # The workflow does so again: this is for an answer at once, and without a worker.
            await replay_plans.check(session, plan)
        return _made(plan), status


def _agreed(made: Made, wanted: Run) -> None:
    if wanted.yes:
        return
    if not sys.stdin.isatty():
        fail(f"this replays {made.count:,} items: run it on a terminal, or with --yes: {made.run(wanted.rate)}", USAGE)
    show_plan(made, wanted.rate)
    typer.confirm(f"Replay {made.count:,} items at {wanted.rate:,}/s?", abort=True, err=True)


async def _followed(reach: Reach, handle: WorkflowHandle[Any, Outcome], made: Made) -> Outcome:
    """The outcome. On Ctrl-C how to come back and how to stop it: rows are counted, so no worker is asked."""
    waiting = asyncio.ensure_future(handle.result())
    columns = (TextColumn("replaying {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
            shown = bar.add_task("", total=made.count)
            while not (await asyncio.wait({waiting}, timeout=_LOOK))[0]:
                if err.is_terminal:
                    async with reach.sessions.begin() as session:
                        seen = await progress.seen(session, made.plan)
                    bar.update(
                        shown, completed=seen.done, description=f"({seen.status.value}, {seen.dead:,} dead again)"
                    )
        return await waiting
    except asyncio.CancelledError:
        err.print(f"It goes on without you. {_come_back(made)}", markup=False)
        raise typer.Exit(130) from None
    except WorkflowFailureError as error:
        cause = getattr(error.cause, "cause", None) or error.cause
        fail(f"the replay did not go on: {cause}", FAILED)


def _come_back(made: Made) -> str:
    return (
        f"To watch it again:\n\n  runbook {made.ledger} replay {made.plan}\n\nTo hold or end it:\n\n"
        f'  runbook replays pause {made.plan} --reason "…"\n  runbook replays cancel {made.plan} --reason "…"\n'
    )


def _made(plan: ReplayPlan) -> Made:
    filters = str(Filters.model_validate(plan.filters))
    return Made(plan.id, plan.ledger, plan.count, plan.hash, plan.histogram, filters, plan.expires_at)


def _seconds(count: int, rate: int) -> int:
    return max(1, -(-count // rate))


def _sorted(name: str, bars: dict[str, int]) -> list[tuple[str, int]]:
    """The most frequent first; ages in their order, which JSON does not keep."""
    if name == "age":
        return [(age, bars[age]) for age in replay_plans.AGES if age in bars]
    return sorted(bars.items(), key=lambda bar: (bar[0] == replay_plans.OTHERS, -bar[1], bar[0]))
