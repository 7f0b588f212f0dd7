"""What of the outbox's page is trouble, and the command for it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from integrations.domain.dispatcher import Dispatcher, listed
from integrations.domain.ledger import PARTITIONS
from integrations.domain.outbox_health import Forecast, forecast
from integrations.domain.outbox_page import Page, Projection
from integrations.domain.trouble import Trouble, amount

_RETRIED: Final = timedelta(minutes=15)
"""Until then an item that fails is Temporal's business."""
_DEALING: Final = timedelta(seconds=5)
"""A partition changes hands faster than that."""


def expected(page: Page, slo: timedelta) -> Forecast:
    """What becomes of the lag."""
    return forecast(page.lag, slo, page.pending, page.rates, drained=page.drained)


def troubles(page: Page, slo: timedelta) -> list[Trouble]:
    """Everything that somebody should look at, the worst first."""
    return [
        *_drain(page, slo),
        *_dispatchers(page),
        *(trouble for each in page.projections for trouble in _projection(each, page.at)),
        *_stuck(page),
        *_counts(page),
    ]


def _drain(page: Page, slo: timedelta) -> Iterator[Trouble]:
    if not page.drained:
        seen = max((each.seen_at for each in page.dispatchers if each.seen_at), default=None)
        waits = "events wait" if page.since else "nothing waits yet"
        yield Trouble(what=f"nobody drains the outbox; {waits}", since=seen, next="runbook worker")
    if page.lag <= slo:
        return
    future = expected(page, slo)
    more = min(PARTITIONS, page.wish * 2)
    slow = page.drained and future.known and future.after is None and page.wish < PARTITIONS
    yield Trouble(
        what=f"the oldest pending event is {page.lag.total_seconds():,.0f} s old, the SLO is "
        f"{slo.total_seconds():,.0f} s: {future.text}",
        since=page.since,
        next=f"runbook outbox scale {more}" if slow else "runbook outbox status" if page.drained else "runbook worker",
    )


def _dispatchers(page: Page) -> Iterator[Trouble]:
    for each in page.dispatchers:
        if not each.wished:
            continue
        if page.drained and not each.fresh(page.at):
            said = "has not been seen" if each.seen_at else "has never been seen"
            yield Trouble(what=f"dispatcher {each.number} {said}{_why(each)}", since=each.seen_at, next=_start(page))
        elif each.fails(page.at):
            what = f"dispatcher {each.number} fails ({each.errors} times so far): {each.last_error}"
            yield Trouble(what=what, since=each.last_error_at, next="runbook doctor")
    waiting = [part for part in page.unowned if part in page.oldest and page.at - page.oldest[part] > _DEALING]
    if waiting and page.drained:
        what = f"nobody owns partition{'s' if len(waiting) > 1 else ''} {listed(waiting)}, and events wait there"
        yield Trouble(what=what, since=min(page.oldest[part] for part in waiting), next=_start(page))


def _why(each: Dispatcher) -> str:
    told = ""
    if each.owner:
        told = f", and session {each.owner.pid} still owns partitions {listed(each.owner.parts)}: it is frozen"
    if each.workflow and each.workflow.state != "running":
        told += f"; outbox-dispatch:{each.number} is {each.workflow.state}"
    elif each.workflow and each.workflow.failure:
        told += f"; attempt {each.workflow.attempt}: {each.workflow.failure}"
    return told


def _start(page: Page) -> str:
    """The same scale once more: it starts what has no workflow."""
    return f"runbook outbox scale {page.wish}"


def _projection(each: Projection, now: datetime) -> Iterator[Trouble]:
    if each.whole:
        what = f"{each.projector} fails as a whole, {amount(each.held)} wait: {each.cause}"
        yield Trouble(what=what, since=each.waiting_since, next="runbook outbox dead --retrying")
    elif each.waiting_since and now - each.waiting_since > _RETRIED:
        what = f"{each.projector}: {amount(each.retrying)} retried, {amount(each.held)} held back behind them"
        cause = f": {each.cause}" if each.cause else ""
        yield Trouble(what=what + cause, since=each.waiting_since, next="runbook outbox dead --retrying")
    if each.dead != 0:
        yield Trouble(
            what=f"{each.projector}: {amount(each.dead)} dead", since=each.dead_since, next="runbook outbox dead"
        )


def _stuck(page: Page) -> Iterator[Trouble]:
    if page.stuck.retrying:
        what = f"{page.stuck.retrying} retried items are past their lease: reconcile restarts them within a minute"
        yield Trouble(what=what, next="runbook doctor")
    if page.stuck.holds:
        what = f"{page.stuck.holds} holds were released more than 30 s ago, and what they held back still waits"
        yield Trouble(what=what, next=_start(page))
    if page.counts and page.counts.processing:
        what = f"{page.counts.processing} events are `processing`, which the outbox never commits: somebody wrote that"
        yield Trouble(what=what, next="runbook outbox status --differences")


def _counts(page: Page) -> Iterator[Trouble]:
    for each in page.counts.projections if page.counts else []:
        if not each.differs:
            continue
        told = f"{each.projector}: the ledger says {each.delivered:,} delivered"
        if each.made is not None:
            told += f", its table has {each.made:,} rows"
        if each.unknown:
            told += f", and of {each.unknown:,} settled events the ledger knows nothing"
        yield Trouble(what=told, next="runbook outbox status --differences")
