"""The notifications on one screen."""

from datetime import timedelta
from typing import Final

from integrations.domain.notification import CHANNELS
from integrations.domain.notification_page import ChannelLook, Page
from integrations.domain.notification_verdict import NOBODY_YET
from integrations.domain.trouble import Trouble
from starters import dispatchers
from starters.page import NOT_COUNTED, age, count, show_troubles
from starters.shell import fields, moment, out, table

_LOOKS: Final = (
    "sent",
    "last",
    "pending",
    "oldest of these",
    "in the morning",
    "on the way",
    "held",
    "retrying",
    "dead",
    "… last hour, and before",
    "old news, last hour",
    "failed over, last hour",
    "addresses",
    "can send",
)
_OUT: Final = ("OUT", "SINCE", "WAIT", "CAUSE", "TRIES FOR ALL")


def show(page: Page, found: list[Trouble], slo: timedelta, note: str) -> None:
    fields(_summary(page, slo, note))
    out.print()
    columns = [_look(each, page) for each in page.channels]
    table(("", *(each.channel.upper() for each in page.channels)), list(zip(_LOOKS, *columns, strict=True)), none="")
    out.print()
    dispatchers.show([each.dispatcher for each in page.channels], page.at, CHANNELS.__getitem__)
    if page.out:
        out.print()
        told = [(f"{o.channel}: {o.origin}", o.since, count(o.waiting), o.cause, o.workflow_id) for o in page.out]
        table(_OUT, told, none="")
    out.print()
    if page.causes is None:
        out.print(f"Causes: {NOT_COUNTED}.")
    for each in page.causes or []:
        show_cause(each.count, f"{each.status} {each.channel}".strip(), each.cause, each.fingerprint)
        since = f"since {moment(each.since)}: " if each.since else ""
        out.print(f"         {since}{each.next}", markup=False)
    out.print()
    show_troubles(found, page.at, none="Fine." if page.reaches_anybody else f"Fine. {NOBODY_YET}")


def show_cause(number: int, state: str, cause: str, fingerprint: str) -> None:
    """The first line of what failed for one reason."""
    out.print(f"{number:>7,}  {state}: {cause}  ({fingerprint})", markup=False)


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


def _look(each: ChannelLook, page: Page) -> tuple[object, ...]:
    return (
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
