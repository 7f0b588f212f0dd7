"""Where outages stand: one line for each, and what ended within a day."""

from datetime import UTC, datetime
from typing import Any, Final

import typer

from integrations.db.outage_status import standing
from integrations.domain.outage import OURS
from integrations.domain.outage_page import Standing, concerns
from starters.known import known_providers
from starters.outage_words import lasted, lease, let_through, note_platform
from starters.reach import reading
from starters.shell import FAILED, Json, as_json, command, out, table

_OPEN: Final = ("PROVIDER", "REACHES", "STEP", "SINCE", "LET THROUGH", "RELAPSES", "PARKED", "LEASE", "NEXT COMMAND")
_OVER: Final = ("PROVIDER", "REACHED", "SINCE", "LASTED", "ENDED", "BY", "JOBS DONE AFTERWARDS", "NEXT COMMAND")


@command
async def status(
    provider: str = typer.Argument("", help="Only this one, and our own way out where it is seen there."),
    json: Json = False,
) -> None:
    """Show what is down, what is let through there, and what ended within a day. Exit code 1 when an outage is open.

    Needs neither Temporal nor a worker, and says so when it has none.

    Example: runbook outage status simulator
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            found = await standing(session)
        if provider:
            found = concerns(found, provider)
            if not found and provider != OURS:
                known_providers().provider(provider)
        still = [each for each in found if each.is_open]
        if still:
            await note_platform(reach)
    over = [each for each in found if not each.is_open]
    if json:
        as_json({"open": [each.shown() for each in still], "ended": [each.shown() for each in over]})
    else:
        _show(still, over)
    if still:
        raise typer.Exit(FAILED)


def standing_in_words(at: Standing) -> str:
    """What `runbook status` says of an open one."""
    where = f"{at.provider}: {at.reach}"
    if at.observed:
        return f"{where}; only observed, nothing is touched: {at.why_not}"
    told = f"{where}; {at.step}, {let_through(at)} let through"
    told += f"; all stays as it is: {at.why_not}" if at.why_not else ""
    told += f"; relapses: {at.relapses}" if at.relapses else ""
    told += f"; parked jobs: {at.parked:,}" if at.parked else ""
    return told + (f"; its lease {lease(at)}" if at.is_forgotten(datetime.now(UTC)) else "")


def _show(still: list[Standing], over: list[Standing]) -> None:
    table(_OPEN, [_line(each) for each in still], none="No outage is open.")
    for each in still:
        if each.observed:
            out.print(f"{each.provider} is only observed, nothing is touched: {each.why_not}", markup=False)
        elif each.why_not:
            out.print(f"{each.provider} stays as it is, nothing is changed: {each.why_not}", markup=False)
    if over:
        out.print("\nEnded within a day:", markup=False)
        table(_OVER, [_ended(each) for each in over], none="")


def _line(at: Standing) -> tuple[Any, ...]:
    step = "observed" if at.observed else at.step
    return at.provider, at.reach, step, at.since, let_through(at), at.relapses, f"{at.parked:,}", lease(at), at.next


def _ended(at: Standing) -> tuple[Any, ...]:
    return at.provider, at.reach, at.since, lasted(at), at.ended, at.closed_by, f"{at.done:,}", at.next
