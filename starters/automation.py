"""Automation: what the platform may do by itself, paused for a while, and what it would have done meanwhile."""

from typing import Annotated, Final

import typer

from integrations.db import automation as rows
from integrations.db.outage_detected import all_open
from integrations.domain.automation import LONGEST, Automation, Conduct, FailureMode, Pause
from integrations.domain.durations import duration
from integrations.domain.errors import WrongUsageError
from starters.reach import changing, reading
from starters.shell import By, Json, Reason, as_json, because, command, moment, out, run, table

app = typer.Typer(invoke_without_command=True)
Mode = Annotated[FailureMode | None, typer.Argument(help="A failure mode. Default: all of them.")]
_NOTHING_YET: Final = frozenset({FailureMode.WEBHOOK, FailureMode.OUTBOX, FailureMode.NOTIFICATION})
"""Of these the platform does nothing by itself in this release that a pause would hold back."""


@app.callback()
def automation(
    context: typer.Context,
    json: Json = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of what was held back.")] = 100,
) -> None:
    """What the platform may do by itself: show what is paused and what it would have done since; pause, resume.

    Example: runbook automation
    """
    if context.invoked_subcommand is None:
        _show(json, limit)


@app.command()
@command
async def pause(
    by: By,
    mode: Mode = None,
    lasts: Annotated[str, typer.Option("--for", help="How long, as 30m, 1h or 2d: it ends by itself.")] = "1h",
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Keep the platform from acting by itself for a while: it goes on detecting, and acts when the pause is over.

    What people order by commands is still done. Pausing again extends a pause, and never shortens it.

    Example: runbook automation pause reauth --for 1h --reason "simulator's release"
    """
    try:
        lease = duration(lasts)
    except ValueError as error:
        raise WrongUsageError(f"--for {error}") from None
    if not lease or lease > LONGEST:
        raise WrongUsageError(
            f"--for {lasts}: a pause lasts from 1s to {LONGEST.days}d. Pause again before it ends, or let the worker "
            "observe: RUNBOOK_MODE=observe"
        )
    async with changing() as reach, reach.sessions.begin() as session:
        why = because(reason, "runbook automation pause")
        paused = await rows.pause(session, _modes(mode), lease, by=by, reason=why)
        open_ones = await all_open(session) if FailureMode.OUTAGE in _modes(mode) else []
        contained = [each.provider_id for each in open_ones if not each.observed]
    if json:
        as_json(paused)
        return
    for each in paused:
        out.print(_told(each), markup=False)
    for name in contained:
        out.print(
            f"The outage of {name} is open, and stays as it is: brakes and shield are kept on. To take them off: "
            f"runbook outage close {name}",
            markup=False,
        )
    out.print("To end it sooner: runbook automation resume" + (f" {mode}" if mode else ""), markup=False)


@app.command()
@command
async def resume(by: By, mode: Mode = None, reason: Reason = "", json: Json = False) -> None:
    """End a pause before its time: what was detected meanwhile is acted on within a minute. Safe to repeat.

    Example: runbook automation resume reauth
    """
    async with changing() as reach, reach.sessions.begin() as session:
        why = because(reason, "runbook automation resume")
        resumed = await rows.resume(session, _modes(mode), by=by, reason=why)
        left = await rows.look(session)
    if json:
        as_json(resumed)
        return
    none = f"{mode} was not paused." if mode else "Nothing was paused."
    out.print(f"Resumed: {', '.join(resumed)}." if resumed else none, markup=False)
    if left.conduct is Conduct.OBSERVE:
        out.print(f"Still, nothing is done: {rows.OBSERVES}.", markup=False)
    elif resumed and left.waiting:
        out.print(f"{left.waiting} detections wait; reconcile takes them up within a minute.", markup=False)


def in_words(found: Automation) -> str:
    """What holds the platform back, in one line. Empty when nothing does."""
    if found.conduct is Conduct.OBSERVE:
        return "observes: nothing is done by itself (RUNBOOK_MODE=observe)"
    pauses = [f"{each.mode} until {each.until:%H:%M} UTC by {each.by}: {each.reason}" for each in found.pauses]
    shielded = dict.fromkeys(each.provider_id for each in found.shields)
    return "; ".join([*pauses, *(f"nobody is demoted for what {name} says: its outage" for name in shielded)])


@command
async def _show(json: bool, limit: int) -> None:
    async with reading() as reach, reach.sessions.begin() as session:
        found = await rows.look(session, limit)
    if json:
        as_json(found)
        return
    if found.conduct_since is not None:
        out.print(
            f"The platform observes since {moment(found.conduct_since)}: it does nothing by itself.", markup=False
        )
    elif not found.pauses:
        out.print("The platform acts by itself, and nothing is paused.", markup=False)
    for shield in found.shields:
        whose = f"{shield.tenant} at {shield.provider_id}" if shield.tenant else shield.provider_id
        out.print(
            f"{whose} is shielded since {moment(shield.since)}: nobody is demoted for what it says while its outage is "
            f"contained. See: runbook outage status {shield.provider_id}",
            markup=False,
        )
    for each in found.pauses:
        out.print(_told(each), markup=False)
    if not found.held:
        return
    out.print()
    shown = [
        (each.mode, each.connection_id, each.tenant, each.step.words, each.cause, each.times, each.last_at)
        for each in found.undone
    ]
    headings = ("MODE", "CONNECTION", "OWNER", "WOULD HAVE", "BECAUSE", "TIMES", "LAST")
    table(headings, shown, none="Nothing was held back so far.")
    if found.undone_total > len(shown):
        out.print(f"{found.undone_total - len(shown)} more: --limit {found.undone_total}")


def _modes(mode: FailureMode | None) -> list[FailureMode]:
    return [mode] if mode else list(FailureMode)


def _told(each: Pause) -> str:
    told = f"{each.mode} is paused until {moment(each.until)} by {each.by}: {each.reason}"
    return f"{told} (nothing of it is done by itself in this release)" if each.mode in _NOTHING_YET else told


if __name__ == "__main__":
    run(app)
