"""The schema of the database, and the Temporal that it belongs to."""

import typer

from integrations import temporal
from integrations.db import binding, migrate
from integrations.db.session import make_engine, make_sessions
from starters.reach import read_settings
from starters.shell import By, Json, as_json, command, err, fail, out

app = typer.Typer(no_args_is_help=True, help="The database: bring it up to date, compare it with the code, bind it.")


@app.command()
@command
async def upgrade(by: By) -> None:
    """Bring the schema up to date and bind the database to its Temporal. Safe to repeat.

    Example: runbook db upgrade
    """
    config = read_settings()
    target = temporal.target(config)
    binding.refuse_remote(config.sqlalchemy_url, target)
    err.print(f"Target: {binding.shown(config.sqlalchemy_url)} with Temporal at {target}", markup=False)
    engine = make_engine(config.sqlalchemy_url, pool_size=2)
    try:
        before, after = await migrate.upgrade(engine)
        async with make_sessions(engine).begin() as session:
            await binding.bind(session, config.sqlalchemy_url, target, by=by)
    finally:
        await engine.dispose()
    out.print(f"The database is at revision {after}" + (f", was {before or 'empty'}." if before != after else "."))


@app.command()
@command
async def bind(by: By, yes: bool = typer.Option(False, "--yes", help="Do not ask.")) -> None:
    """Bind the database to another Temporal: for one that has moved. Open workflows do not move with it.

    Example: runbook db bind --yes
    """
    config = read_settings()
    target = temporal.target(config)
    err.print(f"Target: {binding.shown(config.sqlalchemy_url)} with Temporal at {target}", markup=False)
    if not yes:
        import sys

        if not sys.stdin.isatty():
            fail("this asks before it changes anything: run it on a terminal, or with --yes", 2)
        typer.confirm("Bind the database to this Temporal?", abort=True)
    engine = make_engine(config.sqlalchemy_url, pool_size=2)
    try:
        async with make_sessions(engine).begin() as session:
            await binding.bind(session, config.sqlalchemy_url, target, by=by, move=True)
    finally:
        await engine.dispose()
    out.print("Bound.")


@app.command()
@command
async def check(json: Json = False) -> None:
    """Compare the database with the code: exit code 1, and a line for each difference.

    Example: runbook db check
    """
    config = read_settings()
    engine = make_engine(config.sqlalchemy_url, pool_size=2)
    try:
        revision, differences = await migrate.revision(engine), await migrate.drift(engine)
    finally:
        await engine.dispose()
    up_to_date = revision == migrate.newest()
    if json:
        as_json({"revision": revision, "newest": migrate.newest(), "differences": differences})
    else:
        out.print(f"Revision {revision}, newest is {migrate.newest()}.")
        for difference in differences:
            out.print(f"- {difference}", markup=False)
    if differences or not up_to_date:
        fail("the database differs from the code: `runbook db upgrade` brings it up to date", 1)


if __name__ == "__main__":
    app()
