"""Replays that were planned: looked at, held, paced, ended, agreed to. The same for every ledger."""

from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from sqlalchemy import select
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from integrations.db import replay, replay_plans
from integrations.db.ledger_tables import ReplayItem, ReplayPlan
from integrations.domain.errors import StopError, TryAgainError
from integrations.domain.filters import Filters
from integrations.domain.replay import Repace, Said
from integrations.domain.replay_pace import read_rate
from integrations.temporal import ui_link
from starters import replay_items
from starters.reach import changing, reading
from starters.replay_items import Items, LimitItems
from starters.shell import By, Json, Reason, as_json, because, command, fields, out, run, table

app = typer.Typer(no_args_is_help=True, help="Replays: list, look, pause, resume, re-pace, cancel, approve.")
_ANSWERED_WITHIN: Final = timedelta(seconds=20)
_LISTED: Final = 50
_NAMED: Final = 20


@app.command("list")
@command
async def list_(json: Json = False) -> None:
    """List the latest plans: what runs, what waits, and how the others ended.

    Example: runbook replays list
    """
    query = select(ReplayPlan).order_by(ReplayPlan.made_at.desc()).limit(_LISTED)
    async with reading() as reach, reach.sessions.begin() as session:
        plans = (await session.scalars(query)).all()
    told = [
        {
            "plan": plan.id,
            "ledger": plan.ledger,
            "status": plan.status,
            "count": plan.count,
            "filters": str(Filters.model_validate(plan.filters)),
            "by": plan.started_by or plan.made_by,
            "made_at": plan.made_at,
            "ended_at": plan.ended_at,
        }
        for plan in plans
    ]
    if json:
        as_json(told)
        return
    headings = ("PLAN", "LEDGER", "STATUS", "ITEMS", "FILTERS", "BY", "MADE", "ENDED")
    none = "Nothing was planned yet. What could be: runbook outbox dead"
    table(headings, [list(entry.values()) for entry in told], none=none)


@app.command()
@command
async def show(
    plan_id: UUID,
    items: Items = False,
    after: Annotated[int, typer.Option(help="Of the items, those beyond this number.")] = 0,
    limit_items: LimitItems = replay_items.LIMIT,
    json: Json = False,
) -> None:
    """How far a replay is, what failed again or was skipped, and what comes next.

    Example: runbook replays show 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11
    """
    noted = (
        select(ReplayItem)
        .where(ReplayItem.plan_id == plan_id, ReplayItem.outcome.is_not(None))
        .order_by(ReplayItem.outcome, ReplayItem.n)
        .limit(_NAMED)
    )
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            plan = await replay_plans.find(session, plan_id)
            seen = await replay.seen(session, plan_id)
            ended = (await session.scalars(noted)).all()
        web_ui = ui_link(reach.settings, f"replay:{plan.id}")
        lines = await replay_items.of(reach, plan.ledger, plan.id, after=after, limit=limit_items) if items else None
    told: dict[str, Any] = {
        "plan": plan.id,
        "ledger": plan.ledger,
        "status": plan.status,
        "count": plan.count,
        "delivered": seen.delivered,
        "skipped": seen.skipped,
        "dead_again": seen.dead,
        "released": plan.released,
        "rate": plan.rate or None,
        "filters": str(Filters.model_validate(plan.filters)),
        "made_by": plan.made_by,
        "made_at": plan.made_at,
        "reason": plan.reason,
        "good_until": plan.expires_at if plan.status == "planned" else None,
        "started_by": plan.started_by,
        "started_at": plan.started_at,
        "approved_by": plan.approved_by,
        "ended_at": plan.ended_at,
        "outcome": plan.outcome,
        "web_ui": web_ui,
        "next": _next(plan),
    }
    named = [
        {"n": item.n, "outcome": item.outcome, "item": item.item_id, "at": item.destination, "why": item.why}
        for item in ended
    ]
    if json:
        as_json(told | {"items": named if lines is None else lines})
        return
    fields([(name, value) for name, value in told.items() if value is not None])
    if named:
        out.print()
        table(("N", "OUTCOME", "ITEM", "AT", "WHY"), [list(item.values()) for item in named], none="")
    if lines is not None:
        out.print()
        replay_items.show(lines, plan.id, plan.count)


@app.command()
@command
async def pause(plan_id: UUID, by: By, reason: Reason = "") -> None:
    """Hold a replay: within a second nothing more is taken.

    Example: runbook replays pause 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --reason "the receiver is slow"
    """
    await _ask(plan_id, "pause", Said(by=by, reason=because(reason, "runbook replays pause")))


@app.command()
@command
async def resume(plan_id: UUID, by: By, reason: Reason = "") -> None:
    """Let a paused replay go on.

    Example: runbook replays resume 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11
    """
    await _ask(plan_id, "resume", Said(by=by, reason=because(reason, "runbook replays resume")))


@app.command()
@command
async def repace(
    plan_id: UUID, by: By, rate: Annotated[str, typer.Option(help="Items a second, as 50/s.")], reason: Reason = ""
) -> None:
    """Make a replay slower or faster.

    Example: runbook replays repace 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --rate 50/s
    """
    pace = read_rate(rate)
    await _ask(plan_id, "repace", Repace(by=by, reason=because(reason, "runbook replays repace"), rate=pace))


@app.command()
@command
async def cancel(plan_id: UUID, by: By, reason: Reason = "") -> None:
    """End a replay. What is done stays done, the rest is untouched.

    Example: runbook replays cancel 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --reason "the wrong filters"
    """
    await _ask(plan_id, "cancel", Said(by=by, reason=because(reason, "runbook replays cancel")))


@app.command()
@command
async def approve(plan_id: UUID, by: By, reason: Reason = "") -> None:
    """Agree to a large replay that waits for it. Who started it may not.

    Example: runbook replays approve 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --by grace --reason "looked at the plan"
    """
    await _ask(plan_id, "approve", Said(by=by, reason=because(reason, "runbook replays approve")))


async def _ask(plan_id: UUID, name: str, said: Said) -> None:
    """Ask something of a replay that runs.

    Raises StopError when it does not run or refuses, TryAgainError when no worker answers in time.
    """
    async with changing() as reach:
        async with reach.sessions.begin() as session:
            plan = await replay_plans.find(session, plan_id)
        client = await reach.client()
        handle = client.get_workflow_handle(f"replay:{plan_id}")
        try:
            out.print(str(await handle.execute_update(name, said, rpc_timeout=_ANSWERED_WITHIN)), markup=False)
        except WorkflowUpdateFailedError as error:
            raise StopError(f"{name} was refused: {error.cause}") from None
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            raise TryAgainError(
                f"{name} was not answered within {_ANSWERED_WITHIN.seconds} s and may still be carried out: is a "
                "worker running? `runbook doctor` tells"
            ) from None
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise StopError(f"plan {plan_id} does not run: it is {plan.status}. {_next(plan) or ''}".strip()) from None


def _next(plan: ReplayPlan) -> str | None:
    """The command that comes next."""
    if plan.status == "planned":
        return f"runbook {plan.ledger} replay {plan.id}"
    if plan.status == "paused":
        return f"runbook replays resume {plan.id}"
    if plan.status == "running" and not plan.released:
        return f"runbook replays approve {plan.id}, when it waits for another person's word"
    return None


if __name__ == "__main__":
    run(app)
