"""The outbox as one command: how it stands, what is dead, how many drain it, and replays."""

from typing import Annotated, Final
from uuid import UUID

import typer

from integrations.domain.errors import WrongUsageError
from integrations.domain.filters import Filters
from integrations.domain.replay_pace import Budget, read_rate
from starters import filters as options
from starters import outbox_status
from starters.filters import filters_of
from starters.reach import changing
from starters.replaying import Run, make, replayed, show_plan
from starters.shell import By, Json, Reason, as_json, because, command, run

app = typer.Typer(no_args_is_help=True, help="The outbox: status, dead, scale, plan, replay.")
app.command("status")(outbox_status.status)
app.command("dead")(outbox_status.dead)
app.command("scale")(outbox_status.scale)
LEDGER: Final = "outbox"


@app.command()
@command
async def plan(
    by: By,
    status: options.Status = [],  # noqa: B006 - Typer copies it
    since: options.Since = "",
    until: options.Until = "",
    event_type: options.EventType = "",
    provider: options.ProviderId = "",
    connection: options.ConnectionId = None,
    tenant: options.Tenant = "",
    cause: options.Cause = "",
    projector: options.Projector = "",
    limit: options.Limit = None,
    rate: Annotated[str, typer.Option(help="The pace for which the duration is told.")] = "500/s",
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Freeze what would be replayed, and show it: how much, of what, and the command that runs it. Good for an hour.

    Example: runbook outbox plan --cause 3f2b8c1e0d4f --since 2h
    """
    pace = read_rate(rate)
    chosen = filters_of(status, since, until, event_type, provider, connection, tenant, cause, projector, limit)
    async with changing() as reach:
        made = await make(reach, LEDGER, chosen, by=by, reason=because(reason, "runbook outbox plan"))
    as_json(made.told(pace)) if json else show_plan(made, pace)


@app.command()
@command
async def replay(
    by: By,
    plan_id: Annotated[UUID | None, typer.Argument(help="A plan; without one, FILTERS make it.")] = None,
    status: options.Status = [],  # noqa: B006 - Typer copies it
    since: options.Since = "",
    until: options.Until = "",
    event_type: options.EventType = "",
    provider: options.ProviderId = "",
    connection: options.ConnectionId = None,
    tenant: options.Tenant = "",
    cause: options.Cause = "",
    projector: options.Projector = "",
    limit: options.Limit = None,
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
    """Replay a plan: the first item, ten, one percent, then the rest at the pace. Joins one that is under way.

    From FILTERS it makes the plan, shows it and asks. Exit code 1 when it was stopped or cancelled, or something is
    dead again.

    Example: runbook outbox replay --cause 3f2b8c1e0d4f --rate 50/s --reason "the table has room again"
    """
    wanted = Run(
        ledger=LEDGER,
        rate=read_rate(rate),
        budget=Budget.read(max_failures),
        by=by,
        reason=because(reason, "runbook outbox replay"),
        dry_run=dry_run,
        yes=yes,
        wait=wait,
        json=json,
    )
    words = (status, since, until, event_type, provider, connection, tenant, cause, projector, limit)
    if plan_id is not None and any(words):
        raise WrongUsageError("say either a plan's id or filters: a plan is frozen, and nothing narrows it")
    chosen: UUID | Filters = plan_id or filters_of(*words)
    async with changing() as reach:
        await replayed(reach, chosen, wanted)


if __name__ == "__main__":
    run(app)
