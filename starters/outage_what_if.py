"""`runbook outage what-if`: recorded calls, looked at with other limits."""

from typing import Annotated, Final

import typer

from integrations.db.outage_what_if import what_if as looked_at
from integrations.domain.call import KEPT
from integrations.domain.errors import WrongUsageError
from integrations.domain.outage import OURS
from integrations.domain.outage_what_if import WouldBe
from integrations.domain.outage_words import reach
from starters.known import known_providers
from starters.reach import reading
from starters.shell import Json, as_json, command, out, past, table

_LEAST: Final = 0.01
_HEADINGS: Final = ("PROVIDER", "REACHES", "FROM", "TO", "CALLS", "FAILING", "WHY")


@command
async def what_if(
    provider: Annotated[str, typer.Option(help="Only this one.")] = "",
    since: Annotated[str, typer.Option(help="From when on: 2h, 7d, or a time. Calls are kept for a week.")] = "7d",
    ratio: Annotated[
        float | None, typer.Option(help="The part of the calls that fails, as 0.3. Default: RUNBOOK_OUTAGE_SHARE.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option(min=1, help="In so many calls a minute. Default: RUNBOOK_OUTAGE_CALLS.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    json: Json = False,
) -> None:
    """List what would have been an outage, had the detector's limits been these. Changes nothing.

    It looks at whole minutes, where the detector looks at the last one every few seconds: what lies across two minutes
    may be missing here. Outages of providers that are called seldom would have been asked for by probes.

    Example: runbook outage what-if --since 7d --ratio 0.3
    """
    if ratio is not None and not _LEAST <= ratio <= 1:
        raise WrongUsageError(f"--ratio {ratio:g} is no part of the calls: write 0.3 for 30 %")
    known = known_providers()
    if provider and provider != OURS:
        known.provider(provider)
    async with reading() as reached:
        changes = {"share": ratio and ratio * 100, "calls": calls}
        limits = reached.settings.outage_limits.model_copy(
            update={name: round(value) for name, value in changes.items() if value is not None}
        )
        start = past(since)
        async with reached.sessions.begin() as session:
            found = await looked_at(session, start, limits, known.families, provider_id=provider, limit=limit)
    if json:
        as_json([each.model_dump() | {"share": round(each.share, 1)} for each in found])
        return
    table(_HEADINGS, [_row(each) for each in found], none="Nothing would have been an outage.")
    kept = "" if reached.settings.calls_kept >= KEPT else f" Calls are kept for {reached.settings.calls_kept}."
    out.print(
        f"\nBy {limits.calls:,} calls in a minute of which {limits.share} % fail, or by the last {limits.quiet_calls} "
        f"that all failed.{kept}",
        markup=False,
    )


def _row(found: WouldBe) -> tuple[str, ...]:
    sure = "" if found.certain else "probes would have been asked: "
    return (
        found.provider,
        reach(found.scope, found.names),
        f"{found.since:%Y-%m-%d %H:%M} UTC",
        f"{found.until:%Y-%m-%d %H:%M}",
        f"{found.calls:,}",
        f"{found.share:.0f} %",
        sure + found.why,
    )
