"""`runbook outage explain`: one outage on one page, from rows alone, for whoever was woken by it."""

from typing import Annotated, Any, Final
from uuid import UUID

import typer

from integrations.db import outage_status
from integrations.db.outage_explain import explained
from integrations.domain.errors import StopError
from integrations.domain.outage import OURS, Baseline, Cell, Finding, outage_id
from integrations.domain.outage_chart import chart
from integrations.domain.outage_page import Explained, Standing, concerns
from integrations.domain.outage_words import title
from integrations.temporal import ui_link
from starters.known import known_providers
from starters.outage_words import lasted, lease, let_through, note_platform
from starters.reach import reading
from starters.shell import Json, as_json, command, fields, out, table

_TENANTS: Final = 6
"""Columns of the matrix; the others are one column more."""
_REST: Final = "all others"


@command
async def explain(
    provider: str,
    outage: Annotated[UUID | None, typer.Option(help="An earlier one. Default: the open one, or the last.")] = None,
    json: Json = False,
) -> None:
    """Explain a provider's outage: what decided, what was done when and by whom, the ramp, and what comes next.

    Needs neither Temporal nor a worker.

    Example: runbook outage explain simulator
    """
    known = known_providers()
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            at = await (outage_status.one(session, outage) if outage else outage_status.last_of(session, provider))
        if at is None and outage is None and provider != OURS:
            known.provider(provider)
        if at is None:
            raise StopError(
                f"there is no outage {outage}: runbook outage status"
                if outage
                else f"{provider} had no outage so far. What would have been one: runbook outage what-if"
            )
        if not concerns([at], provider):
            raise StopError(f"outage {at.outage} is one of {at.provider}: {at.next}")
        told = await explained(reach.sessions, at)
        link = ui_link(reach.settings, outage_id(at.provider))
        if at.is_open and not json:
            await note_platform(reach)
    drawn = chart(told)
    if json:
        more = {
            "standing": at.shown(),
            "chart": drawn,
            "next": told.following,
            "commands": _commands(at),
            "web_ui": link,
        }
        as_json(told.model_dump() | more)
        return
    out.print(title(known.name_of(at.provider), at.scope, at.names), markup=False)
    fields([(name, value) for name, value in _summary(at, link) if value not in {None, ""}])
    _decided(told.finding, told.baseline)
    _section("Let through, over time", drawn)
    _tables(told)
    _section("Next", [told.following, *_commands(at)])


def _summary(at: Standing, link: str | None) -> list[tuple[str, Any]]:
    over = f"{at.ended}, by {at.closed_by}: {at.closed_reason}" if at.closed_at else None
    return [
        ("outage", at.outage),
        ("reaches", at.reach),
        ("step", "observed: nothing is touched" if at.observed else at.step),
        ("since", at.since),
        ("lasted", lasted(at) if at.closed_at else None),
        ("found by", at.by),
        ("because", at.reason),
        ("why not", at.why_not),
        ("let through", let_through(at) if at.is_open else None),
        ("relapses", at.relapses or None),
        ("lease", lease(at) if at.is_open else None),
        ("ended", over),
        ("web ui", link),
    ]


def _decided(finding: Finding | None, before: Baseline | None) -> None:
    if finding is not None:
        share = f"{100 * finding.failing / finding.calls:.0f} %" if finding.calls else "-"
        window = f"within {finding.window.total_seconds():.0f} s" if finding.window else "the last ones, over any time"
        sure = "" if finding.certain else "; too few to tell, so probes decided"
        counts = f"{finding.failing:,} of {finding.calls:,} calls failed ({share}), {window}{sure}"
        _section("What decided", [finding.why, counts])
        _matrix(finding.matrix)
    if before is not None:
        _section(
            "Before it",
            [
                f"{before.rate:.3g} calls a second, {before.since:%H:%M:%S} to {before.until:%H:%M:%S} UTC",
                f"refreshes: {before.refreshed:,} of {before.refreshes:,} worked",
                f"uses: {before.used:,} of {before.uses:,} worked",
            ],
        )


def _matrix(cells: tuple[Cell, ...]) -> None:
    """Failing of all, endpoint by tenant; the tenants first that were called most."""
    if not cells:
        return
    totals: dict[str, int] = {}
    for each in cells:
        totals[each.who] = totals.get(each.who, 0) + each.calls
    tenants = sorted(totals, key=lambda who: -totals[who])
    named = tenants[:_TENANTS] if len(tenants) > _TENANTS + 1 else tenants
    columns = [*named, _REST] if len(named) < len(tenants) else named
    rows: dict[str, dict[str, list[int]]] = {}
    for each in cells:
        column = each.who if each.who in named else _REST
        counts = rows.setdefault(each.endpoint, {}).setdefault(column, [0, 0])
        counts[0], counts[1] = counts[0] + each.failing, counts[1] + each.calls
    shown = [
        (endpoint, *(f"{found[name][0]:,}/{found[name][1]:,}" if name in found else "-" for name in columns))
        for endpoint, found in rows.items()
    ]
    out.print()
    table(("FAILING/CALLS", *columns), shown, none="")


def _tables(told: Explained) -> None:
    _section("Timeline", [])
    lines = [
        (each.at, each.step, each.what, let_through(each) if each.percent is not None else "") for each in told.timeline
    ]
    table(("AT", "STEP", "WHAT", "LET THROUGH"), lines, none="Nothing was done yet.")
    if told.journal:
        _section("Brakes", [])
        brakes = [
            (each.words, each.put_at, each.put_by, each.lease_until, each.released_at, each.released_by)
            for each in told.journal
        ]
        table(("BRAKE", "PUT ON", "BY", "LEASE UNTIL", "RELEASED", "BY"), brakes, none="")
    if told.parked:
        _section("Parked jobs", [", ".join(f"{count:,} {word}" for word, count in told.parked.items())])


def _section(heading: str, lines: list[str]) -> None:
    out.print(f"\n{heading}", style="bold", markup=False)
    for line in lines:
        out.print(line, markup=False)


def _commands(at: Standing) -> list[str]:
    """What a person may want to do about it now."""
    if not at.is_open:
        return []
    if at.observed:
        return ["runbook automation resume outage"]
    return [
        f'runbook outage close {at.provider} --reason "…"',
        f'runbook outage pin {at.provider} --rate 1/s --reason "…"',
    ]
