"""`plan` and `replay`: the same two commands for every ledger, with the filters that are its own."""

from typing import Annotated
from uuid import UUID

import typer

from integrations.domain.errors import WrongUsageError
from integrations.domain.filters import Filters
from integrations.domain.replay_pace import Budget, read_rate
from starters import replay_items
from starters.filters import filtered
from starters.reach import changing
from starters.replay_items import Items, LimitItems
from starters.replaying import Judging, Run, make, replayed, show_plan
from starters.shell import By, Json, Reason, as_json, because, command

_PLAN = """Freeze what would be replayed, and show it: how much, of what, and the command that runs it.

It is good for an hour.

Example: runbook {ledger} plan --cause 3f2b8c1e0d4f --since 2h
"""
_REPLAY = """Replay a plan: the first item, ten, one percent, then the rest at the pace. Joins one that is under way.

From FILTERS it makes the plan, shows it and asks. Exit code 1 when it was stopped or cancelled, or something is
dead again.

Example: runbook {ledger} replay --cause 3f2b8c1e0d4f --rate 50/s --reason "the cause is gone"
"""


def add(app: typer.Typer, ledger: str, *own: str, judging: Judging | None = None) -> None:
    """Give a ledger's command both. `judging`: what is to be known of each item before it is replayed."""

    @app.command(help=_PLAN.format(ledger=ledger))
    @command
    @filtered(*own)
    async def plan(
        by: By,
        filters: Filters | None,
        rate: Annotated[str, typer.Option(help="The pace for which the duration is told.")] = "500/s",
        items: Items = False,
        limit_items: LimitItems = replay_items.LIMIT,
        reason: Reason = "",
        json: Json = False,
    ) -> None:
        pace, why = read_rate(rate), because(reason, f"runbook {ledger} plan")
        async with changing() as reach:
            made = await make(reach, ledger, filters or Filters(), by=by, reason=why, judging=judging)
            lines = await replay_items.of(reach, ledger, made.plan, limit=limit_items) if items else None
        if json:
            as_json(made.told(pace) | ({} if lines is None else {"items": lines}))
            return
        show_plan(made, pace)
        if lines is not None:
            replay_items.show(lines, made.plan, made.count)

    @app.command(help=_REPLAY.format(ledger=ledger))
    @command
    @filtered(*own)
    async def replay(
        by: By,
        filters: Filters | None,
        plan_id: Annotated[UUID | None, typer.Argument(help="A plan; without one, FILTERS make it.")] = None,
        rate: Annotated[str, typer.Option(help="Items a second, at most.")] = "500/s",
        max_failures: Annotated[
            str, typer.Option(help="Of a stage may fail again: a share, as 5%, or a number. Of the first ten: none.")
        ] = "5%",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Make and show the plan, and do nothing.")] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        wait: Annotated[bool, typer.Option(help="Stay until it has ended.")] = True,
        reason: Reason = "",
        json: Json = False,
    ) -> None:
        wanted = Run(
            ledger=ledger,
            rate=read_rate(rate),
            budget=Budget.read(max_failures),
            by=by,
            reason=because(reason, f"runbook {ledger} replay"),
            dry_run=dry_run,
            yes=yes,
            wait=wait,
            json=json,
            judging=judging,
        )
        if plan_id is not None and filters is not None:
            raise WrongUsageError("say either a plan's id or filters: a plan is frozen, and nothing narrows it")
        async with changing() as reach:
            await replayed(reach, plan_id or filters or Filters(), wanted)
