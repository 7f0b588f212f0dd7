"""The notifications on one screen."""

from datetime import timedelta
from typing import Final

from integrations.domain.notification import CHANNELS
from integrations.domain.notification_page import ChannelLook, Page
from integrations.domain.notification_verdict import NOBODY_YET
from integrations.domain.trouble import Trouble
from starters import dispatchers
from starters.page import NOT_COUNTED, age, count, show_troubles
from starters.shell import fields, out, table

_CHANNELS: Final = (
    "CHANNEL",
    "SENT",
    "LAST",
    "PENDING",
    "OLDEST",
    "IN THE MORNING",
    "ON THE WAY",
    "HELD",
    "RETRYING",
    "DEAD",
    "1 H, BEFORE",
    "OLD NEWS, 1 H",
    "FAILED OVER, 1 H",
    "ADDRESSES",
    "CAN SEND",
)
_CAUSES: Final = ("STATUS", "CHANNEL", "ITEMS", "SINCE", "CAUSE", "NEXT COMMAND")
_OUT: Final = ("OUT", "SINCE", "WAIT", "CAUSE", "TRIES FOR ALL")


def show(page: Page, found: list[Trouble], slo: timedelta, note: str) -> None:
    fields(_summary(page, slo, note))
    out.print()
    table(_CHANNELS, [_channel(each, page) for each in page.channels], none="")
    out.print()
    dispatchers.show([each.dispatcher for each in page.channels], page.at, CHANNELS.__getitem__)
    if page.out:
        out.print()
        told = [(f"{o.channel}: {o.origin}", o.since, count(o.waiting), o.cause, o.workflow_id) for o in page.out]
        table(_OUT, told, none="")
    out.print()
    if page.causes is None:
        out.print(f"Causes: {NOT_COUNTED}.")
    else:
        causes = [(c.status, c.channel, f"{c.count:,}", c.since, c.cause, c.next) for c in page.causes]
        table(_CAUSES, causes, none="Nothing is retried, dead, or reached nobody.")
    out.print()
    show_troubles(found, page.at, none="Fine." if page.reaches_anybody else f"Fine. {NOBODY_YET}")


def _summary(page: Page, slo: timedelta, note: str) -> list[tuple[str, object]]:
    since = page.waiting_since
    waits = f"for {age(since, page.at)}" if since else "nothing waits"
    requests = f", the oldest for {age(page.requested, page.at)}" if page.requested else ""
    return [
        ("oldest that is due", f"{waits}; SLO {slo.total_seconds():,.0f} s"),
        ("events to be told", f"{count(page.requests)}{requests}"),
        ("reached nobody", count(page.nobody)),
        *([("note", note)] if note else []),
    ]


def _channel(each: ChannelLook, page: Page) -> tuple[object, ...]:
    return (
        each.channel,
        f"{each.sent:,}",
        f"{age(each.sent_at, page.at)} ago" if each.sent_at else "never",
        count(each.pending),
        age(each.oldest, page.at),
        count(each.later),
        count(each.on_the_way),
        count(each.held),
        count(each.retrying),
        count(each.dead),
        f"{count(each.dead_last_hour)}, {count(each.dead_hour_before)}",
        count(each.dropped_last_hour),
        count(each.failed_over_last_hour),
        f"{each.addresses:,}",
        each.unready or "yes",
    )
