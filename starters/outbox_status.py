"""The outbox for people: how it stands, what was given up, and how many drain it."""

import os
from typing import Annotated, Final

import typer
from temporalio.service import RPCError

from integrations import temporal
from integrations.db import binding, load, outbox_counts, outbox_dead
from integrations.db import scale as wishes
from integrations.db.outbox_status import page as look
from integrations.domain.dispatcher import listed
from integrations.domain.errors import StopError, WrongUsageError
from integrations.domain.ledger import PARTITIONS, partitions_of
from integrations.domain.outbox_verdict import expected, troubles
from integrations.domain.scale import verdict
from integrations.temporal import TemporalUnreachableError
from starters import outbox_page
from starters.dispatchers import described
from starters.page import attempt
from starters.reach import Reach, changing, reading
from starters.shell import (
    FAILED,
    UNREACHABLE,
    By,
    Json,
    Reason,
    as_json,
    because,
    command,
    err,
    fail,
    fields,
    moment,
    out,
    table,
)

_PLAN: Final = "runbook outbox plan --cause"


@command
async def status(
    json: Json = False,
    differences: Annotated[
        bool, typer.Option("--differences", help="The events whose projections are not as the ledger says.")
    ] = False,
) -> None:
    """Show what waits, who drains, what is in trouble, and the next command. Exit code 1 on trouble.

    Needs neither Temporal nor a worker, and says so when it has none.

    Example: runbook outbox status
    """
    async with reading() as reach:
        if differences:
            await _differences(reach, json=json)
            return
        page = await look(reach.sessions)
        dispatchers, note = await described(reach, page.dispatchers, "outbox-dispatch")
        counts = await outbox_counts.counts(reach.sessions)
        page = page.model_copy(update={"dispatchers": dispatchers, "counts": counts})
    slo = reach.settings.outbox_lag_slo
    found = troubles(page, slo)
    if json:
        told = {"trouble": found, "note": note, "lag": page.lag.total_seconds(), "slo": slo.total_seconds()}
        more = {"forecast": expected(page, slo), "unowned": page.unowned, "reconciled": counts is not None}
        as_json(told | more | page.model_dump())
    else:
        outbox_page.show(page, found, slo, note)
    if found:
        raise typer.Exit(FAILED)


async def _differences(reach: Reach, *, json: bool) -> None:
    found = await outbox_counts.differences(reach.sessions)
    if found is None:
        raise StopError("the events were not compared within a minute: the tables are large, or the database is busy")
    if json:
        as_json(found)
    else:
        rows = [(each.projector, each.event_id, each.what) for each in found]
        table(("PROJECTOR", "EVENT", "IS"), rows, none="Every projection is as the ledger says.")
    if found:
        raise typer.Exit(FAILED)


@command
async def dead(
    json: Json = False,
    cause: Annotated[str, typer.Option(help="List the items of one: its fingerprint, or how it begins.")] = "",
    retrying: Annotated[bool, typer.Option("--retrying", help="Those that are still retried, in their place.")] = False,
) -> None:
    """Show what was given up, grouped by cause, with the command that plans its replay; or one cause's items.

    Example: runbook outbox dead
    """
    state = "retrying" if retrying else "dead"
    async with reading() as reach, reach.sessions.begin() as session:
        if cause:
            items, total = await outbox_dead.items(session, cause, state)
        else:
            groups = await outbox_dead.groups(session, state)
    if cause:
        _items(items, total, cause, state, json=json)
    elif json:
        as_json([group.model_dump() | _next(group, state) for group in groups])
    else:
        _groups(groups, state)


def _next(group: outbox_dead.Group, state: str) -> dict[str, str]:
    """A command for the group: what is dead is replayed, what is retried is only looked at."""
    looked = f"runbook outbox dead --retrying --cause {group.fingerprint}"
    return {"next": f"{_PLAN} {group.fingerprint}" if state == "dead" else looked}


def _groups(groups: list[outbox_dead.Group], state: str) -> None:
    rows = [
        (g.projector, g.count, g.oldest, g.newest, g.providers, g.cause, g.example, _next(g, state)["next"])
        for g in groups
    ]
    headings = ("PROJECTOR", "ITEMS", "OLDEST", "NEWEST", "PROVIDERS", "CAUSE", "FOR EXAMPLE", "NEXT COMMAND")
    table(headings, rows, none=f"Nothing is {state}.")
    if len(groups) == outbox_dead.LIMIT:
        out.print(f"The {outbox_dead.LIMIT} largest groups; there may be more.")


def _items(items: list[outbox_dead.Item], total: int, cause: str, state: str, *, json: bool) -> None:
    if json:
        as_json({"total": total, "items": items})
        return
    if not items:
        out.print(f"Nothing is {state} with a cause or fingerprint like {cause!r}.", markup=False)
        return
    out.print(f"{total:,} {state}, the first {len(items)} of them:" if total > len(items) else f"{total:,} {state}:")
    for each in items:
        out.print()
        fields(
            [
                ("event", f"{each.event_id}  {each.name}, {moment(each.occurred_at)}"),
                ("projector", each.projector),
                ("of", f"{each.provider} of {each.tenant}, connection {each.connection_id or '-'}"),
                ("failed", f"{each.attempts or 0} times, last {moment(each.failed_at) if each.failed_at else '-'}"),
                ("cause", f"{each.cause}  ({each.fingerprint})"),
                ("error", each.error),
                *[(f"  {attempt(entry)}", entry.get("error", "")) for entry in each.history],
            ]
        )


@command
async def scale(
    dispatchers: Annotated[int, typer.Argument(help=f"1 to {PARTITIONS}.")],
    by: By,
    reason: Reason = "",
    anyway: Annotated[bool, typer.Option("--anyway", help="Also when the database is what limits.")] = False,
) -> None:
    """Set how many dispatchers share the partitions. Refused when the database is measured to be the limit.

    Example: runbook outbox scale 8 --reason "the import of monday"
    """
    if not 1 <= dispatchers <= PARTITIONS:
        raise WrongUsageError(f"{dispatchers} dispatchers: there are {PARTITIONS} partitions to share, so 1 to 16")
    async with changing() as reach:
        async with reach.sessions.begin() as session:
            seen = await wishes.wish(session)
        why = because(reason, "runbook outbox scale")
        if dispatchers > seen.dispatchers:
            refused = await _refused(reach, dispatchers - seen.dispatchers)
            if refused and not anyway:
                raise StopError(
                    f"{refused}; more dispatchers would only wait with the {seen.dispatchers} there are. Give the "
                    f"database more, or insist: runbook outbox scale {dispatchers} --anyway"
                )
            why += f" (although {refused})" if refused else ""
        if dispatchers != seen.dispatchers:
            async with reach.sessions.begin() as session:
                await wishes.keep(session, seen, dispatchers, by=by, reason=why)
        _deal(seen.dispatchers, dispatchers)
        await _start(reach, dispatchers)


async def _refused(reach: Reach, more: int) -> str | None:
    err.print(f"Looking at the database for {load.SECONDS:.0f} s.")
    async with reach.sessions() as session:
        measured = await load.measured(session)
    cores = reach.settings.database_cores
    if cores is None and not binding.is_remote(reach.settings.sqlalchemy_url):
        cores = os.cpu_count()
    if cores is None:
        err.print("RUNBOOK_DATABASE_CORES is not set: whether the database's CPU is saturated was not judged.")
    if measured.hidden:
        grant = "GRANT pg_read_all_stats shows them"
        err.print(f"Note: {measured.hidden} sessions of other roles could not be looked into; {grant}.", markup=False)
    return verdict(measured, cores, more=more)


def _deal(before: int, now: int) -> None:
    out.print(f"{now} dispatchers, as before." if before == now else f"{now} dispatchers in place of {before}.")
    rows = [(number, listed(partitions_of(number, now))) for number in range(now)]
    table(("DISPATCHER", "PARTITIONS"), rows, none="")


async def _start(reach: Reach, dispatchers: int) -> None:
    """Row first: those that are not started here, reconcile starts within a minute."""
    try:
        client = await reach.client()
        for number in range(dispatchers):
            await temporal.start_dispatcher(client, number)
    except (TemporalUnreachableError, RPCError) as error:
        said = error.message if isinstance(error, RPCError) else str(error)
        fail(f"the wish is kept, and reconcile starts them once Temporal answers: {said}", UNREACHABLE)
