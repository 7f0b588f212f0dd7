"""`scale`: the same command for every ledger whose partitions dispatchers share."""

import os
from typing import Annotated, Final

import typer
from temporalio.service import RPCError

from integrations import temporal
from integrations.db import binding, load
from integrations.db import scale as wishes
from integrations.domain import webhook
from integrations.domain.dispatcher import listed
from integrations.domain.errors import StopError, WrongUsageError
from integrations.domain.ledger import PARTITIONS, partitions_of
from integrations.domain.scale import verdict
from integrations.temporal import TemporalUnreachableError
from starters.reach import Reach, changing
from starters.shell import UNREACHABLE, By, Reason, because, command, err, fail, out, table

_HELP: Final = """Set how many dispatchers share the partitions. Refused when the database is measured to be the limit.

Example: runbook {ledger} scale 8 --reason "the import of monday"
"""
_START: Final = {"outbox": temporal.start_dispatcher, webhook.LEDGER: temporal.start_webhook_dispatcher}


def add(app: typer.Typer, ledger: str) -> None:
    """Give a ledger's command its own."""

    @app.command(help=_HELP.format(ledger=ledger))
    @command
    async def scale(
        dispatchers: Annotated[int, typer.Argument(help=f"1 to {PARTITIONS}.")],
        by: By,
        reason: Reason = "",
        anyway: Annotated[bool, typer.Option("--anyway", help="Also when the database is what limits.")] = False,
    ) -> None:
        if not 1 <= dispatchers <= PARTITIONS:
            raise WrongUsageError(
                f"{dispatchers} dispatchers: there are {PARTITIONS} partitions to share, so 1 to {PARTITIONS}"
            )
        async with changing() as reach:
            async with reach.sessions.begin() as session:
                seen = await wishes.wish(session, ledger)
            why = because(reason, f"runbook {ledger} scale")
            if dispatchers > seen.dispatchers:
                refused = await _refused(reach, ledger, dispatchers - seen.dispatchers)
                if refused and not anyway:
                    raise StopError(
                        f"{refused}; more dispatchers would only wait with the {seen.dispatchers} there are. Give the "
                        f"database more, or insist: runbook {ledger} scale {dispatchers} --anyway"
                    )
                why += f" (although {refused})" if refused else ""
            if dispatchers != seen.dispatchers:
                async with reach.sessions.begin() as session:
                    await wishes.keep(session, seen, dispatchers, by=by, reason=why)
            _deal(seen.dispatchers, dispatchers)
            await _start(reach, ledger, dispatchers)


async def _refused(reach: Reach, ledger: str, more: int) -> str | None:
    err.print(f"Looking at the database for {load.SECONDS:.0f} s.")
    async with reach.sessions() as session:
        measured = await load.measured(session, ledger)
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


async def _start(reach: Reach, ledger: str, dispatchers: int) -> None:
    """Row first: those that are not started here, reconcile starts within a minute."""
    try:
        client = await reach.client()
        for number in range(dispatchers):
            await _START[ledger](client, number)
    except (TemporalUnreachableError, RPCError) as error:
        said = error.message if isinstance(error, RPCError) else str(error)
        fail(f"the wish is kept, and reconcile starts them once Temporal answers: {said}", UNREACHABLE)
