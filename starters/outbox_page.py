"""The outbox on one screen."""

from datetime import datetime, timedelta
from typing import Final

from integrations.domain.outbox_health import per_second
from integrations.domain.outbox_page import Counts, Dispatcher, Page, Projection
from integrations.domain.outbox_verdict import Trouble, expected, listed
from starters.shell import ago, fields, out, table

_NOT_COUNTED: Final = "not counted in time"
_DISPATCHERS: Final = ("DISPATCHER", "SEEN", "PARTITIONS", "SESSION", "BATCH", "ERRORS", "WORKFLOW")
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
    table(_DISPATCHERS, [_dispatcher(each, page.at) for each in page.dispatchers], none="No dispatcher.")
    for stranger in page.strangers:
        who = f"session {stranger.pid} ({stranger.application or 'nameless'})"
        out.print(f"Partitions {listed(stranger.parts)} are owned by {who}, which is no dispatcher's.", markup=False)
    out.print()
    table(_PROJECTORS, [_projection(each, page.counts, page.at) for each in page.projections], none="No projector.")
    out.print()
    if not found:
        out.print("Fine.")
    for trouble in found:
        since = f" ({ago(page.at - trouble.since)})" if trouble.since else ""
        out.print(f"TROUBLE  {trouble.what}{since}\n         {trouble.next}", markup=False)


def _summary(page: Page, slo: timedelta, note: str) -> list[tuple[str, object]]:
    oldest = f", the oldest {_age(page.since, page.at)} old" if page.since else ""
    rates = page.rates
    pace = "no sample to compare with yet"
    if rates:
        pace = f"{per_second(rates.arrived)} arrive, {per_second(rates.settled)} go, over {rates.seconds:,.0f} s"
    scale = f"{page.wish}, wished by {page.wished_by}" if page.wished_by else f"{page.wish}, the default"
    return [
        ("pending", f"{_count(page.pending)}{oldest}; SLO {slo.total_seconds():,.0f} s: {expected(page, slo).text}"),
        ("rates", pace),
        ("dispatchers", scale),
        ("owned by nobody", f"partitions {listed(page.unowned)}" if page.unowned else "no partition"),
        *([("note", note)] if note else []),
    ]


def _dispatcher(each: Dispatcher, now: datetime) -> tuple[object, ...]:
    seen = _age(each.seen_at, now) + (" ago" if each.fresh(now) else " ago, STALE") if each.seen_at else "never"
    session = f"pid {each.owner.pid}, {each.owner.wait or 'on the CPU'}" if each.owner else "-"
    errors = str(each.errors)
    if each.last_error_at:
        errors += f", {_age(each.last_error_at, now)} ago: {each.last_error}"
    return (
        each.number if each.wished else f"{each.number} (one too many)",
        f"{seen} {each.worker}".strip(),
        listed(each.owner.parts) if each.owner else "none",
        session,
        each.batch or "-",
        errors,
        _workflow(each),
    )


def _workflow(each: Dispatcher) -> str:
    if each.workflow is None:
        return "?"
    told = each.workflow.state
    if each.workflow.attempt:
        told += f", attempt {each.workflow.attempt}"
    return f"{told}: {each.workflow.failure}" if each.workflow.failure else told


def _projection(each: Projection, counts: Counts | None, now: datetime) -> tuple[object, ...]:
    reconciled = {row.projector: row for row in counts.projections} if counts else {}
    row = reconciled.get(each.projector)
    if row is None:
        rows = _NOT_COUNTED if counts is None else "-"
    elif row.made is None:
        rows = f"{row.delivered:,} (its table is not known)"
    else:
        sign = "=" if row.made == row.delivered else "≠"
        rows = f"{row.delivered:,} {sign} {row.made:,}"
        rows += f", {row.unknown:,} unknown" if row.unknown else ""
    return (
        f"{each.projector} (as a whole)" if each.whole else each.projector,
        _count(each.held),
        _count(each.retrying),
        _count(each.dead),
        "-" if each.position is None else f"{each.position:,}",
        f"{_age(each.moved_at, now)} ago" if each.moved_at else "never",
        _count(each.behind),
        _age(each.oldest, now) if each.oldest else "-",
        rows,
    )


def _count(number: int | None) -> str:
    return _NOT_COUNTED if number is None else f"{number:,}"


def _age(at: datetime | None, now: datetime) -> str:
    return ago(max(now - at, timedelta())).removesuffix(" ago") if at else "-"
