"""One look: is anything in trouble, since when, what is done about it, and the next command."""

from datetime import UTC, datetime, timedelta

import typer
from temporalio.service import RPCError

from integrations.db import automation, calls
from integrations.db.notification_status import page as notification_page
from integrations.db.outage_status import standing
from integrations.db.outbox_status import page
from integrations.db.refresh_overdue import Overdue, overdue
from integrations.db.status import ReauthStatus, reauth_status
from integrations.db.surge_status import Surge, surges
from integrations.db.webhook_status import page as webhook_page
from integrations.domain.automation import Automation, Conduct
from integrations.domain.notification_page import Page as NotificationPage
from integrations.domain.notification_verdict import NOBODY_YET
from integrations.domain.notification_verdict import troubles as notification_troubles
from integrations.domain.outage_page import Standing
from integrations.domain.outbox_page import Page
from integrations.domain.outbox_verdict import troubles
from integrations.domain.trouble import Trouble, amount
from integrations.domain.webhook_page import Page as WebhookPage
from integrations.domain.webhook_verdict import troubles as webhook_troubles
from integrations.temporal import TemporalUnreachableError
from starters.automation import in_words
from starters.calls import HEADINGS, WINDOW, by_outcome, lines
from starters.notification_kit import unready
from starters.outage_status import standing_in_words
from starters.reach import Reach, no_worker_since, reading
from starters.shell import FAILED, UNREACHABLE, Json, as_json, command, moment, table
from workflows.queues import WORKFLOWS

Line = tuple[str, str, str, str, str]
_LATELY = timedelta(hours=2)
"""Of webhooks: this hour and the one before."""


@command
async def status(json: Json = False) -> None:
    """One line for each failure mode: fine or trouble. Exit code 1 on trouble. Below, what providers answered.

    Example: runbook status
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            found = await reauth_status(session)
            outages = await standing(session)
            held, late = await surges(session), await overdue(session)
            called = by_outcome(await calls.counts(session, datetime.now(UTC) - WINDOW))
            conduct = await automation.look(session, limit=1)
        outbox = await page(reach.sessions)
        stuck = troubles(outbox, reach.settings.outbox_lag_slo)
        told = await notification_page(reach.sessions, await unready(reach.settings))
        untold = notification_troubles(told, reach.settings.notify_backlog_slo)
        hooks = await webhook_page(reach.sessions)
        unhandled = webhook_troubles(hooks)
        platform, unreachable = await _platform(reach)
    down = [each for each in outages if each.is_open]
    trouble = bool(down or found.blocked or found.errored or held or late or stuck or untold or unhandled or platform)
    if json:
        ledgers = {
            "outbox": {"trouble": stuck} | outbox.model_dump(),
            "notification": {"trouble": untold} | told.model_dump(),
            "webhook": {"trouble": unhandled} | hooks.model_dump(),
        }
        told_of = {"trouble": trouble, "platform": platform, "automation": conduct, "reauth": found}
        told_of |= {"outage": {"trouble": bool(down), "open": [each.shown() for each in down]}}
        refused = {"refresh": {"trouble": bool(held or late), "surges": held, "overdue": late}}
        as_json(told_of | refused | ledgers | {"provider_calls": called, "not_watched": []})
    else:
        rows = [("platform", "trouble" if platform else "fine", "", platform or "worker and Temporal answer", "")]
        rows += [_automation(conduct)] if conduct.held else []
        rows += [
            _outage(down, outages),
            _line(found),
            _refresh(held, late),
            _outbox(outbox, stuck),
            _notifications(told, untold),
            _webhooks(hooks, unhandled),
        ]
        table(("MODE", "", "SINCE", "WHAT", "NEXT COMMAND"), rows, none="")
        if called:
            typer.echo()
            table(HEADINGS, lines(called), none="")
    if unreachable:
        raise typer.Exit(UNREACHABLE)
    if trouble:
        raise typer.Exit(FAILED)


def _automation(found: Automation) -> Line:
    """What holds the platform back is no trouble; whoever wonders why nothing happens is told."""
    held_since = [*(each.since for each in found.pauses), *(each.since for each in found.shields)]
    since = found.conduct_since or min(held_since)
    what = f"{in_words(found)}. Held back: {found.undone_total}; {found.waiting} detections wait"
    paused = "paused" if found.pauses else "shielded"
    state = "observes" if found.conduct is Conduct.OBSERVE else paused
    return "automation", state, moment(since), what, "runbook automation"


def _outage(down: list[Standing], outages: list[Standing]) -> Line:
    if not down:
        over = len(outages)
        return "outage", "fine", "", "no provider is down" + (f"; {over} ended within a day" if over else ""), ""
    what = "; ".join([standing_in_words(each) for each in down[:2]] + [f"{len(down) - 2} more"] * (len(down) > 2))  # noqa: PLR2004
    following = down[0].next if len(down) == 1 else "runbook outage status"
    return "outage", "trouble", moment(min(each.since for each in down)), what, following


def _line(found: ReauthStatus) -> Line:
    if not (found.blocked or found.errored):
        return "reauth", "fine", "", "every connection has its grants", ""
    what = f"{found.blocked} blocked until the owner consents, {found.errored} errored; {found.open_tasks} tasks open"
    what += f", {found.unacknowledged} not acknowledged"
    if found.without_task:
        what += f"; {found.without_task} WITHOUT A TASK, reconcile will open one within a minute"
    since = moment(found.since) if found.since else ""
    return "reauth", "trouble", since, what, "runbook tasks list"


def _refresh(found: list[Surge], late: list[Overdue]) -> Line:
    if not found and not late:
        return "refresh", "fine", "", "nothing is late, and no provider refuses many at once", ""
    what = [f"{each.provider}: {each.cause}; {each.held:,} held back" for each in found]
    what += [f"{each.provider}: {each.connections:,} connections are late" for each in late]
    following = f"runbook tasks show {found[0].task}" if found else "runbook refresh late"
    return (
        "refresh",
        "trouble",
        moment(min([*(each.since for each in found), *(each.since for each in late)])),
        "; ".join(what),
        following,
    )


def _outbox(page: Page, found: list[Trouble]) -> Line:
    retrying, held = (sum(getattr(each, state) or 0 for each in page.projections) for state in ("retrying", "held"))
    draining = sum(each.fresh(page.at) for each in page.dispatchers)
    doing = f"{draining} of {page.wish} dispatchers drain"
    doing += f"; {retrying} being retried, {held} held back behind, by itself" if retrying or held else ""
    if not found:
        many = "many" if page.pending is None else f"{page.pending}"
        return "outbox", "fine", "", f"{many} pending; {doing}", ""
    return _troubled("outbox", "outbox", found, doing)


def _notifications(page: NotificationPage, found: list[Trouble]) -> Line:
    waiting, retrying, held = (
        sum(getattr(each, state) or 0 for each in page.channels) for state in ("pending", "retrying", "held")
    )
    doing = f"{sum(each.sent for each in page.channels):,} sent, {waiting:,} pending"
    doing += f"; {retrying} being retried, {held} held back, by itself" if retrying or held else ""
    if not found:
        return "notification", "fine", "", doing if page.reaches_anybody else NOBODY_YET, ""
    return _troubled("notification", "notifications", found, doing)


def _webhooks(page: WebhookPage, found: list[Trouble]) -> Line:
    lately = list(page.channels(_LATELY).values())
    accepted, repeated, refused = (
        (sum(each) for each in zip(*((c.accepted, c.duplicates, c.refused) for c in lately), strict=True))
        if lately
        else (0, 0, 0)
    )
    doing = f"{accepted:,} accepted, {repeated:,} repeated, {refused:,} refused in the last hours"
    waiting = page.waiting
    doing += f"; {amount(waiting.retrying)} being retried, by itself" if waiting.retrying != 0 else ""
    doing += f"; held back: {page.held}" if page.held else ""
    if not found:
        return "webhook", "fine", "", f"{amount(waiting.pending)} pending; {doing}", ""
    return _troubled("webhook", "webhooks", found, doing)


def _troubled(mode: str, app: str, found: list[Trouble], doing: str) -> Line:
    """Of a ledger: the worst of it, and the command that all of it leads to."""
    what = "; ".join(each.what for each in found[:2]) + (f"; {len(found) - 2} more" if len(found) > 2 else "")  # noqa: PLR2004
    since = min((each.since for each in found if each.since), default=None)
    [*following] = {each.next for each in found}
    dead = f"runbook {app} dead"
    return (
        mode,
        "trouble",
        moment(since) if since else "",
        f"{what}. {doing}",
        dead if following == [dead] else f"runbook {app} status",
    )


async def _platform(reach: Reach) -> tuple[str, bool]:
    """What keeps the platform from acting, if anything does; and whether it is that Temporal does not answer."""
    try:
        return await no_worker_since(await reach.client(), WORKFLOWS) or "", False
    except (TemporalUnreachableError, RPCError) as error:
        return str(error), True
