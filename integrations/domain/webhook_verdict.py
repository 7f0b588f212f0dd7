"""What of the webhooks' page is trouble, and the command for it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from integrations.domain.ledger import PARTITIONS
from integrations.domain.trouble import Trouble, amount
from integrations.domain.webhook_page import Page

LAG: Final = timedelta(seconds=60)
"""What is due is handled within that."""
_LATELY: Final = timedelta(hours=2)
"""This hour and the one before: this one may have begun a minute ago."""
_HELD_FOR: Final = timedelta(hours=1)
"""Long enough for whoever was called to have decided."""
_MANY: Final = 10
_STATUS: Final = "runbook webhooks status"
_DEAD: Final = "runbook webhooks dead"


def troubles(page: Page) -> list[Trouble]:
    """Everything that somebody should look at, the worst first."""
    return [*_drain(page), *_broken(page), *_held_back(page), *_waiting(page), *_refused(page)]


def _drain(page: Page) -> Iterator[Trouble]:
    if not page.drained:
        seen = max((each.seen_at for each in page.dispatchers if each.seen_at), default=None)
        waits = "deliveries wait" if page.waiting.oldest else "nothing waits yet"
        yield Trouble(what=f"nobody handles webhooks; {waits}", since=seen, next="runbook worker")
        return
    for each in page.dispatchers:
        if not each.wished:
            continue
        if each.fails(page.at):
            what = f"dispatcher {each.number} fails ({each.errors} times so far): {each.last_error}"
            yield Trouble(what=what, since=each.last_error_at, next="runbook doctor")
        elif not each.fresh(page.at):
            said = "has not been seen" if each.seen_at else "has never been seen"
            what = f"dispatcher {each.number} {said}: reconcile starts it within a minute"
            yield Trouble(what=what, since=each.seen_at, next="runbook doctor")
    if page.lag > LAG and not page.held:
        what = f"the oldest delivery that is due waits for {page.lag.total_seconds():,.0f} s"
        what += f", {amount(page.waiting.pending)} in all"
        yield Trouble(what=what, since=page.waiting.oldest, next=_more(page) or _STATUS)


def _more(page: Page) -> str | None:
    """Twice as many dispatchers, unless these have trouble of their own, which more of them would have too."""
    well = not page.broken and all(each.fresh(page.at) and not each.fails(page.at) for each in page.dispatchers)
    return f"runbook webhooks scale {min(PARTITIONS, 2 * page.wish)}" if well and page.wish < PARTITIONS else None


def _broken(page: Page) -> Iterator[Trouble]:
    for each in page.broken:
        what = f"the handler of {each.reaction!r} fails as a whole, and one delivery tries for all: {each.cause}"
        yield Trouble(what=what, since=each.since, next=f"{_DEAD} --retrying")


def _held_back(page: Page) -> Iterator[Trouble]:
    for each in page.held_back or []:
        if page.at - each.since > _HELD_FOR and not page.held:
            what = f"{each.count:,} {each.reaction} of {each.provider} are held back: {each.why}"
            yield Trouble(what=what, since=each.since, next="runbook tasks list")


def _waiting(page: Page) -> Iterator[Trouble]:
    if page.waiting.unheard != 0:
        what = f"{amount(page.waiting.unheard)} retried deliveries are past their lease: reconcile restarts them soon"
        yield Trouble(what=what, next="runbook doctor")
    if page.waiting.dead != 0:
        yield Trouble(what=f"{amount(page.waiting.dead)} dead", since=page.waiting.dead_since, next=_DEAD)


def _refused(page: Page) -> Iterator[Trouble]:
    """A channel that refuses most of what comes: its secret is another one than the provider's, or somebody knocks."""
    for (provider, channel), counted in page.channels(_LATELY).items():
        if provider.startswith("(") or counted.refused < _MANY or counted.refused <= counted.accepted:
            continue
        reason = max(counted.rejected, key=lambda name: counted.rejected[name])
        what = f"{provider}/{channel} refused {counted.refused:,} and accepted {counted.accepted:,} lately: {reason}"
        yield Trouble(what=what, next="runbook webhooks audit")
