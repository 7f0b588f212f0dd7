"""The schema of the database, and the Temporal that it belongs to."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations import temporal
from integrations.db import binding, migrate
from integrations.db.session import make_engine, make_sessions
from starters.embedded.down import remove
from starters.embedded.location import SHARED
from starters.embedded.lock import acquire
from starters.embedded.postgres import Postgres
from starters.reach import open_database, read_settings
from starters.shell import FAILED, USAGE, By, Json, as_json, command, err, fail, out, run

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
    async with _configured() as engine:
        before, after = await migrate.upgrade(engine)
        async with make_sessions(engine).begin() as session:
            await binding.bind(session, config.sqlalchemy_url, target, by=by)
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
        if not sys.stdin.isatty():
            fail("this asks before it changes anything: run it on a terminal, or with --yes", USAGE)
        typer.confirm("Bind the database to this Temporal?", abort=True)
    async with _configured() as engine, make_sessions(engine).begin() as session:
        await binding.bind(session, config.sqlalchemy_url, target, by=by, move=True)
    out.print("Bound.")


@app.command()
@command
async def check(
    fresh: bool = typer.Option(False, "--fresh", help="An empty embedded database of its own, for developers."),
    json: Json = False,
) -> None:
    """Compare the database with the code: exit code 1, and a line for each difference.

    With --fresh: do the migrations make what the code believes?

    Example: runbook db check
    """
    async with _fresh() if fresh else _configured() as engine:
        if fresh:
            await migrate.upgrade(engine)
        revision, differences = await migrate.revision(engine), await migrate.drift(engine)
    up_to_date = revision == migrate.newest()
    if json:
        as_json({"revision": revision, "newest": migrate.newest(), "differences": differences})
    else:
        out.print(f"Revision {revision}, newest is {migrate.newest()}.")
        for difference in differences:
            out.print(f"- {difference}", markup=False)
    if differences or not up_to_date:
        way_out = "write a migration" if fresh else "`runbook db upgrade` brings it up to date"
        fail(f"the database differs from the code: {way_out}", FAILED)


@asynccontextmanager
async def _configured() -> AsyncIterator[AsyncEngine]:
    async with open_database(read_settings()) as engine:
        yield engine


@asynccontextmanager
async def _fresh() -> AsyncIterator[AsyncEngine]:
    """A server in a folder that is gone afterwards. Root's is where PostgreSQL's account can reach it."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-check-", dir=SHARED if os.geteuid() == 0 else None))
    lock = acquire(folder)
    try:
        server = await Postgres.start(lock)
        engine = make_engine(server.url("postgres"), pool_size=2)
        try:
            yield engine
        finally:
            await engine.dispose()
            await server.stop()
    finally:
        lock.release()
        await asyncio.to_thread(remove, folder)


if __name__ == "__main__":
    run(app)
