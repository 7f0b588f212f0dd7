"""From counted calls to findings: who is suspected of an outage, by which calls, and what is said of it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from integrations.domain.message import Message
from integrations.domain.outage import OURS, Cell, Finding, Limits, Scope
from integrations.domain.outage_detection import scope_of, trips, words

UNRELATED: Final = 3
"""So many families of providers at once have nothing in common but our own way out …"""
_MOST: Final = 2 / 3
"""… when those that fail are that part of the providers that were called."""


class Group(Message):
    """Calls of a window to one provider, to one of its endpoints, or of one of its tenants."""

    provider_id: str
    endpoint: str | None = None
    tenant: str | None = None
    calls: int
    failing: int

    @property
    def whole(self) -> bool:
        return self.endpoint is None and self.tenant is None


class Suspect(Message):
    """A provider with calls that say that something is out."""

    provider_id: str
    window: timedelta | None
    """None: its last calls, over any time."""
    calls: int
    failing: int
    since: datetime
    """Its matrix is of the calls from then on."""
    whole: bool
    """By all calls of the provider. Otherwise by those of an endpoint or a tenant."""

    @property
    def certain(self) -> bool:
        return self.window is not None

    @property
    def words(self) -> str:
        if self.window is None:
            return f"the last {self.calls:,} calls failed, and there are few"
        return f"{self.failing:,} of {self.calls:,} calls failed in {self.window.total_seconds():g} s"


def suspects(groups: Iterable[Group], until: datetime, window: timedelta, limits: Limits) -> list[Suspect]:
    """Of each provider that trips in the window until then the widest group that does."""
    found: dict[str, Group] = {}
    for each in groups:
        had = found.get(each.provider_id)
        if trips(each.calls, each.failing, limits) and (had is None or _width(each) > _width(had)):
            found[each.provider_id] = each
    return [
        Suspect(
            provider_id=each.provider_id,
            window=window,
            calls=each.calls,
            failing=each.failing,
            since=until - window,
            whole=each.whole,
        )
        for each in found.values()
    ]


def _width(group: Group) -> tuple[bool, int]:
    return group.whole, group.failing


def quiet_suspects(tails: Mapping[str, Sequence[datetime]], busy: Collection[str], limits: Limits) -> list[Suspect]:
    """Providers whose last calls all failed, over any time. `tails`: when those were, the last one first.

    `busy`: those with so many calls in the window that this says how they are.
    """
    return [
        Suspect(
            provider_id=provider_id,
            window=None,
            calls=len(failing),
            failing=len(failing),
            since=failing[-1],
            whole=True,
        )
        for provider_id, failing in tails.items()
        if len(failing) >= limits.quiet_calls and provider_id not in busy
    ]


def finding(suspect: Suspect, matrix: Sequence[Cell], limits: Limits) -> Finding:
    """What is said of a suspect by its matrix. Raises ValueError for one without a call."""
    reach = scope_of(matrix, limits)
    return Finding(
        provider_id=suspect.provider_id,
        scope=reach.scope,
        names=reach.names,
        why=f"{suspect.words}: {reach.why}",
        window=suspect.window,
        calls=suspect.calls,
        failing=suspect.failing,
        certain=suspect.certain,
        ask=reach.ask,
        matrix=tuple(matrix),
    )


def still(cells: Iterable[Cell], scope: Scope, names: Collection[str], limits: Limits) -> bool | None:
    """Whether most calls of what an outage reaches fail now, be they ever so few. None: there are no calls."""
    mine = [
        each
        for each in cells
        if scope is Scope.PROVIDER or (each.endpoint if scope is Scope.ENDPOINT else each.tenant) in names
    ]
    calls = sum(each.calls for each in mine)
    return sum(each.failing for each in mine) * 100 >= limits.share * calls if calls else None


def ours(found: Sequence[Suspect], called: Collection[str], families: Mapping[str, str]) -> Finding | None:
    """One finding about our own way out in place of one for each of many providers that have nothing in common.

    `called`: all providers that were, in the window. `families`: by provider; who is in none is a family of its own.
    """
    whole = [each for each in found if each.whole and each.provider_id in called]
    names = tuple(sorted(each.provider_id for each in whole))
    unrelated = {families.get(name, name) for name in names}
    if len(unrelated) < UNRELATED or len(names) < _MOST * len(called):
        return None
    calls, failing = sum(each.calls for each in whole), sum(each.failing for each in whole)
    return Finding(
        provider_id=OURS,
        scope=Scope.OURS,
        names=names,
        why=f"{len(names)} of the {len(called)} providers that were called fail at once, and have nothing in common: "
        f"{words(names)}; {failing:,} of {calls:,} calls",
        window=max((each.window for each in whole if each.window is not None), default=None),
        calls=calls,
        failing=failing,
    )
