"""The outbox for people: how it stands, and what was given up."""

from typing import Annotated, Final

import typer

from integrations.db import outbox_counts, outbox_dead
from integrations.db.outbox_status import page as look
from integrations.domain.errors import StopError
from integrations.domain.outbox_verdict import expected, troubles
from starters import outbox_page
from starters.dispatchers import described
from starters.page import attempt
from starters.reach import Reach, reading
from starters.shell import (
    FAILED,
    Json,
    as_json,
    command,
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
