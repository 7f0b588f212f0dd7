"""How an outage is put into words: the same in a task, a mail, a line of `runbook status` and the page for 3 a.m."""

import re
from collections.abc import Sequence
from typing import Final

from integrations.domain.errors import WrongUsageError
from integrations.domain.outage import OURS, Scope

_NAMED: Final = 3


def reach(scope: Scope, names: Sequence[str]) -> str:
    """How far it reaches: `the whole provider`, `the endpoint token`, `org:acme alone`, `the endpoint a; org:b`."""
    if scope is Scope.TENANT:
        return f"{listed(names)} alone"
    if scope is Scope.ENDPOINT:
        tenants = [each for each in names if each.startswith(("user:", "org:"))]
        endpoints = [each for each in names if each not in tenants]
        told = f"the endpoint {listed(endpoints)}" if len(endpoints) == 1 else f"the endpoints {listed(endpoints)}"
        return f"{told}; {listed(tenants)}" if tenants else told
    return f"our own way out, seen at {listed(names)}" if scope is Scope.OURS else "the whole provider"


def title(name: str, scope: Scope, names: Sequence[str]) -> str:
    """`name`: the provider's, for people. `Simulator is down`, `Simulator is down: the endpoint token`."""
    if scope is Scope.OURS:
        return f"{listed(names)} fail at once: it is our own way out"
    if scope is Scope.TENANT:
        return f"{name} fails for {reach(scope, names)}"
    return f"{name} is down" if scope is Scope.PROVIDER else f"{name} is down: {reach(scope, names)}"


def providers(provider_id: str, names: Sequence[str]) -> list[str]:
    """Whose calls it is about: of `ours` those of all that it names."""
    return list(names) if provider_id == OURS else [provider_id]


def listed(names: Sequence[str]) -> str:
    """Three of them, and how many more."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def read_rate(text: str) -> float:
    """Calls per second: `2/s`, `0.5/s`, `0/s`. Raises WrongUsageError for anything else."""
    match = re.fullmatch(r"([0-9]{1,5}(?:\.[0-9]{1,4})?)(/s)?", text.strip())
    if match is None:
        raise WrongUsageError(f"--rate {text[:40]!r} is no rate: write calls a second, as 2/s or 0.5/s")
    return float(match[1])
