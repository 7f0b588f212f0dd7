"""How far a provider's trouble reaches, told by its failure matrix alone. Pencil and paper would do.

The narrowest reading that the calls allow is taken. What is outside of it has to be fine: a tenant whose calls fail is
its own trouble where others call the same endpoints and are answered, an endpoint is where the other endpoints answer.
Nothing fine outside: it is the provider.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from integrations.domain.message import Message
from integrations.domain.outage import Cell, Limits, Scope

CHANCE: Final = 1
"""So many failing calls may be chance: one time-out of somebody who calls once says nothing."""
_NAMED: Final = 3


class Reach(Message):
    """How far it reaches by the calls that there are."""

    scope: Scope
    names: tuple[str, ...] = ()
    """The tenants or the endpoints; empty: the provider as a whole."""
    why: str
    ask: Scope | None = None
    """What the calls cannot tell, and probes can: `tenant`: only these tenants call there, so probes with others'
    connections at the same endpoints decide; `endpoint`: only this one was called, so probes of others decide. Their
    answers are further cells of the next question. None: it is told."""


def trips(calls: int, failing: int, limits: Limits) -> bool:
    """Whether so many calls of one window are an outage of whatever they were to."""
    return calls >= limits.calls and _is_sick(calls, failing, limits)


def scope_of(matrix: Sequence[Cell], limits: Limits, *, alone: bool = False) -> Reach:
    """Judge a matrix in which something fails. Cells of one endpoint and tenant may come in parts.

    `alone`: the provider has no other tenant than those in the matrix, so that nobody can be asked whether it is
    theirs. Raises ValueError for a matrix without a call.
    """
    cells = _summed(matrix)
    if not cells:
        raise ValueError("a matrix without a call tells nothing")
    failing = _failing_endpoints(cells, limits)
    there = [each for each in cells if each.endpoint in failing]
    sick = _sick(there or cells, limits)
    return (
        _of_tenants(there, sick, limits, alone=alone)
        or _of_endpoints(cells, failing or {each.endpoint for each in sick}, limits)
        or _of_provider(cells)
    )


def _of_tenants(there: Sequence[Cell], sick: Sequence[Cell], limits: Limits, *, alone: bool) -> Reach | None:
    """The trouble of these tenants alone: others are answered where theirs fail.

    `there`: the calls of endpoints that fail as a whole. Empty: none does, so that it can be nobody else's.
    """
    theirs = {each.tenant for each in sick}
    others = [each for each in there if each.tenant not in theirs]
    mine, rest = _tenants(sick), _tenants(others)
    # Whoever is counted together with others cannot be named.
    names = tuple(sorted(theirs - {""}))
    if not names or _failing(others, limits):
        return None
    if there and mine > 1 and mine >= rest:
        # Half of those who call, or more, have nothing in common but what they call.
        return None
    who, where = words(theirs), words({each.endpoint for each in sick})
    if not there:
        return Reach(scope=Scope.TENANT, names=names, why=f"{who} fails at {where}, which answers most other calls")
    if others:
        calls, failing = _totals(others)
        why = f"{who} alone fails at {where}: of {calls:,} calls of others there ({rest:,}) {failing:,} failed"
        return Reach(scope=Scope.TENANT, names=names, why=why)
    if alone:
        return None
    why = f"nobody but {who} called {where}: probes for others tell whether it is the provider"
    return Reach(scope=Scope.TENANT, names=names, why=why, ask=Scope.TENANT)


def _of_endpoints(cells: Sequence[Cell], where: Collection[str], limits: Limits) -> Reach | None:
    """The trouble of these endpoints alone: another one answers."""
    rest = {
        endpoint: some
        for endpoint, some in _by_endpoint(cells).items()
        if endpoint not in where and not _is_sick(*_totals(some), limits)
    }
    if not rest:
        return None
    calls, failing = _totals(each for some in rest.values() for each in some)
    why = f"{words(where)} fails for all who call it: of {calls:,} calls of {words(rest)} {failing:,} failed"
    return Reach(scope=Scope.ENDPOINT, names=tuple(sorted(where)), why=why)


def _of_provider(cells: Sequence[Cell]) -> Reach:
    calls, failing = _totals(cells)
    endpoints = {each.endpoint for each in cells}
    why = f"{failing:,} of {calls:,} calls failed, of {_tenants(cells):,} tenants at {words(endpoints)}"
    return Reach(scope=Scope.PROVIDER, why=why, ask=Scope.ENDPOINT if len(endpoints) == 1 else None)


def _is_sick(calls: int, failing: int, limits: Limits) -> bool:
    return failing > 0 and failing * 100 >= limits.share * calls


def _sick(cells: Sequence[Cell], limits: Limits) -> list[Cell]:
    """Where the trouble is: without those that may be chance, unless there are no others. One at least."""
    sick = [each for each in cells if _is_sick(each.calls, each.failing, limits)]
    sure = [each for each in sick if each.failing > CHANCE]
    return sure or sick or [max(cells, key=lambda each: (each.failing, each.endpoint, each.tenant))]


def _failing_endpoints(cells: Iterable[Cell], limits: Limits) -> set[str]:
    """Those that fail as a whole: without those that may be chance, unless there are no others."""
    totals = {endpoint: _totals(some) for endpoint, some in _by_endpoint(cells).items()}
    sick = {endpoint for endpoint, (calls, failing) in totals.items() if _is_sick(calls, failing, limits)}
    return {endpoint for endpoint in sick if totals[endpoint][1] > CHANCE} or sick


def _failing(cells: Iterable[Cell], limits: Limits) -> bool:
    """Whether any endpoint fails as a whole, be it by chance."""
    return any(_is_sick(*_totals(some), limits) for some in _by_endpoint(cells).values())


def _summed(matrix: Iterable[Cell]) -> list[Cell]:
    cells: dict[tuple[str, str], Cell] = {}
    for each in matrix:
        had = cells.get((each.endpoint, each.tenant))
        cells[each.endpoint, each.tenant] = each if had is None else _sum(had, each)
    return [each for each in cells.values() if each.calls]


def _sum(one: Cell, other: Cell) -> Cell:
    calls, failing = _totals([one, other])
    return one.model_copy(update={"calls": calls, "failing": failing, "tenants": max(one.tenants, other.tenants)})


def _by_endpoint(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for each in cells:
        found.setdefault(each.endpoint, []).append(each)
    return found


def _totals(cells: Iterable[Cell]) -> tuple[int, int]:
    """Calls, and those of them that failed."""
    counts = [(each.calls, each.failing) for each in cells]
    return sum(calls for calls, _ in counts), sum(failing for _, failing in counts)


def _tenants(cells: Iterable[Cell]) -> int:
    """How many. Those who are counted together at two endpoints are taken for the same ones."""
    most: dict[str, int] = {}
    for each in cells:
        most[each.tenant] = max(most.get(each.tenant, 0), each.tenants)
    return sum(most.values())


def words(names: Iterable[str]) -> str:
    """Some of them by name, and how many more there are."""
    some = sorted(names)
    return ", ".join(some[:_NAMED]) + (f" and {len(some) - _NAMED:,} more" if len(some) > _NAMED else "")
