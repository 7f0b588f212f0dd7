"""What is held back for an outage, and at which rate. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from integrations.domain.outage import OURS, Brake, Progress, Scope, Target

_LEAST: Final = 2.0
"""Calls per second that are 100 % of a ramp at least: of a quiet provider's rate five per cent would be none."""
_TOKEN: Final = "token"  # noqa: S105 - an endpoint's name


def full_rate(before: float, allowed: float | None) -> float:
    """What 100 % is: the smaller of what was called before and what the provider allows."""
    rate = max(before, _LEAST)
    return min(rate, allowed) if allowed else rate


def targets(
    provider_id: str,
    scope: Scope,
    names: Sequence[str],
    full: float,
    allowed: float | None = None,
    endpoints: Sequence[str] = (),
) -> tuple[Target, ...]:
    """The brakes of one provider, and the shield where what it says of grants is not to be believed.

    An endpoint of the API says nothing of a grant: only the token endpoint's trouble shields. A tenant's shields that
    tenant.
    """

    def target(brake: Brake, name: str = "", rate: float = 0.0) -> Target:
        return Target(
            provider_id=provider_id, brake=brake, name=name, full=rate, allowed=allowed, endpoints=tuple(endpoints)
        )

    if scope is Scope.ENDPOINT:
        shield = [target(Brake.SHIELD)] if _TOKEN in names else []
        return (*(target(Brake.CIRCUIT, name, full) for name in names), *shield)
    if scope is Scope.TENANT:
        return tuple(target(brake, name, full) for name in names for brake in (Brake.TENANT, Brake.SHIELD))
    return (target(Brake.QUEUE, rate=full), target(Brake.SHIELD))


def rate_of(target: Target, progress: Progress) -> float | None:
    """Calls per second that are let through there now. None: of a shield."""
    if target.brake is Brake.SHIELD:
        return None
    if progress.pin is not None:
        return progress.pin.rate
    if not progress.percent:
        return progress.limits.trickle(target.full)
    rate = target.full * progress.percent / 100
    return min(rate, target.allowed) if target.allowed else rate


def brakes(targets: Iterable[Target]) -> list[Target]:
    return [each for each in targets if each.brake is not Brake.SHIELD]


def reach_of(provider_id: str, targets: Iterable[Target]) -> tuple[Scope, list[str]]:
    """How far an outage reaches by what is held back: its widest part, and the names of all, endpoints and tenants."""
    held = brakes(targets)
    if provider_id == OURS:
        return Scope.OURS, sorted({each.provider_id for each in held})
    if any(each.brake is Brake.QUEUE for each in held):
        return Scope.PROVIDER, []
    scope = Scope.ENDPOINT if any(each.brake is Brake.CIRCUIT for each in held) else Scope.TENANT
    return scope, sorted({each.name for each in held})


def covers(targets: Iterable[Target], provider_id: str, endpoint: str, tenant: str) -> bool:
    """Is a call of this endpoint for this tenant held back by one of these?"""
    names = {Brake.QUEUE: "", Brake.CIRCUIT: endpoint, Brake.TENANT: tenant}
    return any(each.provider_id == provider_id and names.get(each.brake) == each.name for each in targets)
