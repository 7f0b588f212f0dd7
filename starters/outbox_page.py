"""The outbox on one screen."""

from datetime import datetime, timedelta
from typing import Final

from integrations.domain.dispatcher import listed
from integrations.domain.outbox_health import per_second
from integrations.domain.outbox_page import Counts, Page, Projection
from integrations.domain.outbox_verdict import expected
from integrations.domain.trouble import Trouble
from starters import dispatchers
from starters.page import NOT_COUNTED, age, count, show_troubles
from starters.shell import fields, out, table

_PROJECTORS: Final = (
    "PROJECTOR",
    "HELD",
    "RETRYING",
    "DEAD",
    "WATERMARK",
    "MOVED",
    "BEHIND",
    "OLDEST",
    "LEDGER = TABLE",
)


def show(page: Page, found: list[Trouble], slo: timedelta, note: str) -> None:
    fields(_summary(page, slo, note))
    out.print()
    dispatchers.show(page.dispatchers, page.at)
    for stranger in page.strangers:
        who = f"session {stranger.pid} ({stranger.application or 'nameless'})"
        out.print(f"Partitions {listed(stranger.parts)} are owned by {who}, which is no dispatcher's.", markup=False)
    out.print()
    table(_PROJECTORS, [_projection(each, page.counts, page.at) for each in page.projections], none="No projector.")
    out.print()
    show_troubles(found, page.at)


def _summary(page: Page, slo: timedelta, note: str) -> list[tuple[str, object]]:
    oldest = f", the oldest {age(page.since, page.at)} old" if page.since else ""
    rates = page.rates
    pace = "no sample to compare with yet"
    if rates:
        pace = f"{per_second(rates.arrived)} arrive, {per_second(rates.settled)} go, over {rates.seconds:,.0f} s"
    return [
        ("pending", f"{count(page.pending)}{oldest}; SLO {slo.total_seconds():,.0f} s: {expected(page, slo).text}"),
        ("rates", pace),
        ("dispatchers", dispatchers.wished(page.wish, page.wished_by)),
        ("owned by nobody", f"partitions {listed(page.unowned)}" if page.unowned else "no partition"),
        *([("note", note)] if note else []),
    ]


def _projection(each: Projection, counts: Counts | None, now: datetime) -> tuple[object, ...]:
    reconciled = {row.projector: row for row in counts.projections} if counts else {}
    row = reconciled.get(each.projector)
    if row is None:
        rows = NOT_COUNTED if counts is None else "-"
    elif row.made is None:
        rows = f"{row.delivered:,} (its table is not known)"
    else:
        sign = "=" if row.made == row.delivered else "≠"
        rows = f"{row.delivered:,} {sign} {row.made:,}"
        rows += f", {row.unknown:,} unknown" if row.unknown else ""
    return (
        f"{each.projector} (as a whole)" if each.whole else each.projector,
        count(each.held),
        count(each.retrying),
        count(each.dead),
        "-" if each.position is None else f"{each.position:,}",
        f"{age(each.moved_at, now)} ago" if each.moved_at else "never",
        count(each.behind),
        age(each.oldest, now) if each.oldest else "-",
        rows,
    )
