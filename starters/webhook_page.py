"""Webhooks on one screen."""

from datetime import timedelta
from typing import Final

from integrations.domain.trouble import Trouble
from integrations.domain.webhook_page import Counted, Page
from starters import dispatchers
from starters.page import NOT_COUNTED, age, count, show_troubles
from starters.shell import fields, out, table

DAY: Final = timedelta(hours=25)
"""The last day's hours, the one that had begun before it too."""
_HEADINGS: Final = ("CHANNEL", "ACCEPTED", "DUPLICATES", "COALESCED", "REJECTED", "WHY")
_ROWS: Final = 48


def show(page: Page, found: list[Trouble], note: str) -> None:
    fields(_summary(page, note))
    out.print()
    dispatchers.show(page.dispatchers, page.at)
    out.print("\nIn the last day:", markup=False)
    if page.hours is None:
        out.print(NOT_COUNTED)
    else:
        sums = page.channels(DAY).items()
        rows = [(f"{provider}/{channel}", *_counted(counted)) for (provider, channel), counted in sums]
        table(_HEADINGS, rows, none="Nothing came.")
        if rows:
            out.print("\nHour by hour:", markup=False)
            hours = [
                (f"{each.hour:%d. %H:00}", f"{each.provider}/{each.channel}", *_counted(each.counted))
                for each in page.hours[:_ROWS]
            ]
            table(("UTC", *_HEADINGS), hours, none="")
            if len(page.hours) > _ROWS:
                out.print(f"and {len(page.hours) - _ROWS} more: --json has all of them")
    if page.repeated:
        out.print("\nRepeated most:", markup=False)
        table(
            ("CHANNEL", "DELIVERY", "TIMES", "LAST"),
            [(f"{r.provider}/{r.channel}", r.delivery_id, f"{r.times:,}", r.last) for r in page.repeated],
            none="",
        )
    out.print()
    show_troubles(found, page.at)


def _summary(page: Page, note: str) -> list[tuple[str, object]]:
    waiting = page.waiting
    oldest = f", the oldest for {age(waiting.oldest, page.at)}" if waiting.oldest else ""
    retrying = f", {count(waiting.unheard)} of them past their lease" if waiting.unheard != 0 else ""
    return [
        ("pending", f"{count(waiting.pending)} are due{oldest}; {count(waiting.later)} later"),
        ("retrying", f"{count(waiting.retrying)}{retrying}"),
        ("dead", count(waiting.dead)),
        ("dispatchers", dispatchers.wished(page.wish, page.wished_by)),
        *([("held back", page.held)] if page.held else []),
        *([("held back", NOT_COUNTED)] if page.held_back is None else []),
        *(
            (
                "held back",
                f"{each.count:,} {each.reaction} of {each.provider} for {age(each.since, page.at)}: {each.why}",
            )
            for each in page.held_back or []
        ),
        *([("note", note)] if note else []),
    ]


def _counted(counted: Counted) -> tuple[object, ...]:
    why = ", ".join(f"{reason} ({amount:,})" for reason, amount in counted.rejected.items() if amount)
    return (
        f"{counted.accepted:,}",
        f"{counted.duplicates:,}",
        f"{counted.coalesced:,}",
        f"{counted.refused:,}",
        why or "-",
    )
