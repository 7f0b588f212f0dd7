"""The catalog: what is in it, and whether an entry holds what it says."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from integrations.domain.errors import WrongUsageError
from integrations.domain.nearest import nearest
from integrations.providers.catalog import BUILT_IN, Catalog, read
from integrations.providers.entry import Provider, variable_stem
from integrations.providers.mistakes import CatalogError
from starters.contract.outcome import Check, Outcome, State, length
from starters.contract.run import contract
from starters.contract.stage import staged
from starters.contract.visitor import Visitor
from starters.known import known_providers
from starters.shell import FAILED, Json, as_json, command, err, fail, fields, out, run, table
from starters.verdict import verdict

_HOST: Final = "http://127.0.0.1"
"""In place of the simulator's address: every address is led to the check's own simulator anyway."""
_MARKS: Final = {State.PASSED: "✔", State.FAILED: "✘", State.NOT_REACHED: "-"}

app = typer.Typer(no_args_is_help=True, help="The catalog of providers: list, check, and what an answer means.")
app.command("verdict")(verdict)


@app.command("list")
@command
async def list_(
    provider: Annotated[str | None, typer.Argument(help="One provider, with everything.")] = None, json: Json = False
) -> None:
    """List the providers of the catalog: what they can do, and whether their client credentials are set here.

    Example: runbook providers list
    """
    catalog = known_providers()
    if provider is not None:
        told = _told(catalog, catalog.provider(provider))
        # A page a line: they are there to be opened.
        shown = told | {"docs": f"\n{' ' * 14}".join(told["docs"])}
        as_json(told) if json else fields(list(shown.items()))
        return
    everything = [_told(catalog, entry) for entry in catalog]
    if json:
        as_json(everything)
        return
    headings = ("ID", "NAME", "CONFIGURED", "CAPABILITIES", "ROTATES", "WEBHOOK", "DOCS")
    rows = [
        (e["id"], e["name"], "yes" if e["configured"] else "no", e["capabilities"], e["rotates"], e["webhook"], n)
        for e in everything
        for n in [f"{len(e['docs'])} pages" if e["docs"] else None]
    ]
    table(headings, rows, none="The catalog is empty.")
    out.print("\nThe pages and variables of one: runbook providers list ID", markup=False)


def _told(catalog: Catalog, entry: Provider) -> dict[str, Any]:
    grace = f"yes, grace {length(entry.rotation_grace)}" if entry.rotation_grace else "yes"
    stem = variable_stem(entry.id)
    return {
        "id": entry.id,
        "name": entry.name,
        "configured": catalog.is_configured(entry.id),
        "credentials": [f"{stem}_CLIENT_ID", f"{stem}_CLIENT_SECRET"],
        "flow": entry.flow,
        "capabilities": sorted(entry.capabilities),
        "rotates": grace if entry.rotates_refresh_token else "no",
        "webhook": entry.webhook.scheme if entry.webhook else None,
        "asked_for": sorted(entry.told_by("connection")),
        "docs": list(entry.docs),
    }


@app.command()
@command
async def check(
    file: Annotated[Path | None, typer.Argument(help="A catalog file. Default: the built-in catalog.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this entry.")] = None,
    json: Json = False,
) -> None:
    """Run entries' contract tests against a simulator that speaks as each entry says, over real sockets.

    Example: runbook providers check providers.toml

    What fails contradicts itself, or is nothing our client can work with, and the key to correct is named. What passes
    is not proven to be what the vendor does: the simulator knows only what the entry tells it.
    """
    entries = _chosen(file or BUILT_IN, provider, json=json)
    outcomes: list[Outcome] = []
    async with staged() as stage, httpx.AsyncClient(trust_env=False, timeout=10.0) as browser:
        for number, entry in enumerate(entries, start=1):
            with _progress(f"{entry.name} ({number} of {len(entries)}) …"):
                outcome = await contract(entry, stage, Visitor(browser))
            outcomes.append(outcome)
            if not json:
                _print(outcome)
    _summed_up(outcomes, json=json)


def _chosen(file: Path, provider: str | None, *, json: bool) -> list[Provider]:
    if not file.is_file():
        raise WrongUsageError(f"there is no file {file}")
    try:
        entries = read(file, _HOST)
    except CatalogError as error:
        if json:
            as_json({"file": file, "mistakes": str(error).splitlines(), "providers": []})
            raise typer.Exit(FAILED) from None
        raise
    if provider is not None and provider not in entries:
        raise WrongUsageError(f"{file} has no provider {provider!r}{nearest(provider, entries)}")
    return [entry for entry in entries.values() if provider in {None, entry.id}]


def _progress(text: str) -> contextlib.AbstractContextManager[object]:
    return err.status(text) if err.is_terminal else contextlib.nullcontext()


def _print(outcome: Outcome) -> None:
    out.print(f"{outcome.name} ({outcome.id})", markup=False)
    width = max(len(check.name) for check in outcome.checks)
    for line in _lines(outcome.checks, width):
        out.print(f"  {line}", markup=False)
    out.print()


def _lines(checks: Iterable[Check], width: int) -> Iterator[str]:
    for check in checks:
        said = "a step before it failed" if check.state is State.NOT_REACHED else check.expected
        yield f"{_MARKS[check.state]} {check.name:<{width}}  {said}"
        if check.state is State.FAILED:
            yield f"  {'':<{width}}  heard: {check.heard}"
            yield f"  {'':<{width}}  correct: {', '.join(check.correct) or 'see above'}"


def _summed_up(outcomes: list[Outcome], *, json: bool) -> None:
    passed, failed = sum(o.passed for o in outcomes), sum(o.failed for o in outcomes)
    if json:
        as_json({"passed": passed, "failed": failed, "providers": outcomes})
        if failed:
            raise typer.Exit(FAILED)
        return
    bad = [outcome.id for outcome in outcomes if outcome.failed]
    several = "provider" if len(outcomes) == 1 else "providers"
    out.print(f"{len(outcomes)} {several}: {passed} checks passed, {failed} failed", markup=False)
    if bad:
        fail(f"not as they say: {', '.join(bad)}", FAILED)


if __name__ == "__main__":
    run(app)
