"""One look: is anything in trouble, since when, what is done about it, and the next command."""

import typer
from temporalio.service import RPCError

from integrations.db.status import ReauthStatus, reauth_status
from integrations.temporal import TemporalUnreachableError
from starters.reach import Reach, no_worker_since, reading
from starters.shell import FAILED, UNREACHABLE, Json, as_json, command, moment, table
from workflows.queues import WORKFLOWS

NOT_WATCHED = ("outage", "webhook", "outbox", "notification")
"""Failure modes that this release does not watch yet: said, so that silence is not taken for health."""


@command
async def status(json: Json = False) -> None:
    """One line for each failure mode: fine or trouble. Exit code 1 on trouble.

    Example: runbook status
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            found = await reauth_status(session)
        platform, unreachable = await _platform(reach)
    trouble = bool(found.blocked or found.errored or platform)
    if json:
        as_json({"trouble": trouble, "platform": platform, "reauth": found, "not_watched": NOT_WATCHED})
    else:
        rows = [("platform", "trouble" if platform else "fine", "", platform or "worker and Temporal answer", "")]
        rows += [_line(found)]
        rows += [(mode, "-", "", "not watched by this release", "") for mode in NOT_WATCHED]
        table(("MODE", "", "SINCE", "WHAT", "NEXT COMMAND"), rows, none="")
    if unreachable:
        raise typer.Exit(UNREACHABLE)
    if trouble:
        raise typer.Exit(FAILED)


def _line(found: ReauthStatus) -> tuple[str, str, str, str, str]:
    if not (found.blocked or found.errored):
        return "reauth", "fine", "", "every connection has its grants", ""
    what = f"{found.blocked} blocked until the owner consents, {found.errored} errored; {found.open_tasks} tasks open"
    what += f", {found.unacknowledged} not acknowledged"
    if found.without_task:
        what += f"; {found.without_task} WITHOUT A TASK, reconcile will open one within a minute"
    since = moment(found.since) if found.since else ""
    return "reauth", "trouble", since, what, "runbook tasks list"


async def _platform(reach: Reach) -> tuple[str, bool]:
    """What keeps the platform from acting, if anything does; and whether it is that Temporal does not answer."""
    try:
        return await no_worker_since(await reach.client(), WORKFLOWS) or "", False
    except (TemporalUnreachableError, RPCError) as error:
        return str(error), True
