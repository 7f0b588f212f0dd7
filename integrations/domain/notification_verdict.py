"""What of the notifications' page is trouble, and the command for it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from integrations.domain.audience import OPERATORS, way_to_reach
from integrations.domain.notification_page import ChannelLook, Out, Page
from integrations.domain.trouble import Trouble, amount

NOBODY_YET: Final = f"Nobody is told anything yet: {way_to_reach(OPERATORS[0])}"
"""No trouble, and still to be said."""
_DEAD: Final = "runbook notifications dead"
_STATUS: Final = "runbook notifications status"


def troubles(page: Page, slo: timedelta) -> list[Trouble]:
    """Everything that somebody should look at, the worst first."""
    return [
        *_dispatchers(page),
        *map(_out, page.out),
        *_backlog(page, slo),
        *(trouble for each in page.channels for trouble in _channel(each)),
        *_nobody(page),
    ]


def _dispatchers(page: Page) -> Iterator[Trouble]:
    seen = [each.dispatcher.seen_at for each in page.channels if each.dispatcher.seen_at]
    if not any(each.dispatcher.fresh(page.at) for each in page.channels):
        waits = "messages wait" if page.waiting_since else "nothing waits yet"
        yield Trouble(what=f"nobody sends notifications; {waits}", since=max(seen, default=None), next="runbook worker")
        return
    for each in page.channels:
        dispatcher = each.dispatcher
        if not dispatcher.fresh(page.at):
            said = "has not been seen" if dispatcher.seen_at else "has never been seen"
            what = f"the dispatcher of {each.channel} {said}{_of_workflow(each)}"
            yield Trouble(what=what, since=dispatcher.seen_at, next="runbook doctor")
        elif dispatcher.fails(page.at):
            what = f"the dispatcher of {each.channel} fails ({dispatcher.errors} times so far): {dispatcher.last_error}"
            yield Trouble(what=what, since=dispatcher.last_error_at, next="runbook doctor")


def _of_workflow(each: ChannelLook) -> str:
    workflow = each.dispatcher.workflow
    if workflow is None or (workflow.state == "running" and not workflow.failure):
        return ""
    if workflow.state != "running":
        return f"; notification-dispatch:{each.channel} is {workflow.state}: reconcile starts it within a minute"
    return f"; attempt {workflow.attempt}: {workflow.failure}"


def _out(each: Out) -> Trouble:
    return Trouble(
        what=f"{each.channel}: {each.origin} is out, {amount(each.waiting)} wait for {each.workflow_id}: {each.cause}",
        since=each.since,
        next="runbook notifications dead --retrying",
    )


def _backlog(page: Page, slo: timedelta) -> Iterator[Trouble]:
    waiting: list[tuple[str, int | None, datetime | None]] = [
        ("events wait to be told", page.requests, page.requested),
        *((f"messages wait for {each.channel}", each.pending, each.oldest) for each in page.channels),
    ]
    for what, count, since in waiting:
        if since and page.at - since > slo:
            age = (page.at - since).total_seconds()
            told = f"{amount(count)} {what}, the oldest for {age:,.0f} s; the SLO is {slo.total_seconds():,.0f} s"
            yield Trouble(what=told, since=since, next=_STATUS)


def _channel(each: ChannelLook) -> Iterator[Trouble]:
    if each.addresses and each.unready:
        what = f"{each.channel} cannot send, and {each.addresses:,} are reached by it: {each.unready}"
        yield Trouble(what=what, next="runbook doctor")
    if each.dead != 0:
        what = f"{each.channel}: {amount(each.dead)} dead, {amount(each.dead_last_hour)} of them in the last hour"
        yield Trouble(what=what, since=each.dead_since, next=_DEAD)


def _nobody(page: Page) -> Iterator[Trouble]:
    if page.nobody != 0 and page.reaches_anybody:
        yield Trouble(what=f"{amount(page.nobody)} reached nobody", since=page.nobody_since, next=_DEAD)
