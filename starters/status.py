"""One look: is anything in trouble, since when, what is done about it, and the next command."""

import typer
from temporalio.service import RPCError

from integrations.db.outbox_status import page
from integrations.db.status import ReauthStatus, reauth_status
from integrations.domain.outbox_page import Page
from integrations.domain.outbox_verdict import troubles
from integrations.domain.trouble import Trouble
from integrations.temporal import TemporalUnreachableError
from starters.reach import Reach, no_worker_since, reading
from starters.shell import FAILED, UNREACHABLE, Json, as_json, command, moment, table
from workflows.queues import WORKFLOWS

NOT_WATCHED = ("outage", "webhook", "notification")
"""Failure modes that this release does not watch yet: said, so that silence is not taken for health."""


@command
async def status(json: Json = False) -> None:
    """One line for each failure mode: fine or trouble. Exit code 1 on trouble.

    Example: runbook status
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            found = await reauth_status(session)
        outbox = await page(reach.sessions)
        stuck = troubles(outbox, reach.settings.outbox_lag_slo)
        platform, unreachable = await _platform(reach)
    trouble = bool(found.blocked or found.errored or stuck or platform)
    if json:
        told = {"trouble": trouble, "platform": platform, "reauth": found}
        as_json(told | {"outbox": {"trouble": stuck} | outbox.model_dump(), "not_watched": NOT_WATCHED})
    else:
        rows = [("platform", "trouble" if platform else "fine", "", platform or "worker and Temporal answer", "")]
        rows += [_line(found), _outbox(outbox, stuck)]
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


def _outbox(page: Page, found: list[Trouble]) -> tuple[str, str, str, str, str]:
    dead, retrying, held = (
        sum(getattr(each, state) or 0 for each in page.projections) for state in ("dead", "retrying", "held")
    )
    draining = sum(each.fresh(page.at) for each in page.dispatchers)
    doing = f"{draining} of {page.wish} dispatchers drain"
    doing += f"; {retrying} being retried, {held} held back behind, by itself" if retrying or held else ""
    if not found:
        many = "many" if page.pending is None else f"{page.pending}"
        return "outbox", "fine", "", f"{many} pending; {doing}", ""
    what = "; ".join(each.what for each in found[:2]) + (f"; {len(found) - 2} more" if len(found) > 2 else "")  # noqa: PLR2004
    since = min((each.since for each in found if each.since), default=None)
    only_dead = dead and all(each.next == "runbook outbox dead" for each in found)
    return (
        "outbox",
        "trouble",
        moment(since) if since else "",
        f"{what}. {doing}",
        "runbook outbox dead" if only_dead else "runbook outbox status",
    )


async def _platform(reach: Reach) -> tuple[str, bool]:
    """What keeps the platform from acting, if anything does; and whether it is that Temporal does not answer."""
    try:
        return await no_worker_since(await reach.client(), WORKFLOWS) or "", False
    except (TemporalUnreachableError, RPCError) as error:
        return str(error), True
