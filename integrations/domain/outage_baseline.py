"""Is it as it was before? The last question before an outage is closed. Pure."""

from datetime import timedelta
from typing import Final

from integrations.domain.outage import Baseline, Limits, Success
from integrations.domain.outage_steps import Validated

_ONE: Final = 1
"""Miss that says nothing beside others that are fine: a grant that was revoked meanwhile."""


def validated(before: Baseline | None, since: Success, limits: Limits, *, lasted: timedelta) -> Validated:
    """Compare what was called since everything is let through, `lasted` long, with the time before.

    Too few calls: it is waited for more, as long as for a quiet step of the ramp. Without a baseline all have to be
    fine, as of what was never called before.
    """
    had = before or Success(refreshes=0, refreshed=0, uses=0, used=0)
    kinds = (
        ("refreshes", had.refreshes, had.refreshed, since.refreshes, since.refreshed),
        ("capability calls", had.uses, had.used, since.uses, since.used),
    )
    judged = [_judge(*kind, limits) for kind in kinds]
    missed = [words for passed, words in judged if not passed]
    said = "; ".join(words for _, words in judged)
    if missed:
        return Validated(passed=False, why="; ".join(missed))
    if since.refreshes + since.uses >= limits.step_calls or lasted >= limits.step_quiet:
        return Validated(passed=True, why=said)
    return Validated(
        passed=False, why=f"{said}: too few to tell, {limits.step_calls} connections or {limits.step_quiet}"
    )


def _judge(what: str, calls: int, fine: int, calls_now: int, fine_now: int, limits: Limits) -> tuple[bool, str]:
    expected = 100 * fine / calls if calls else 100.0
    allowed = max(_ONE if fine_now else 0, calls_now * (100 - expected + limits.slack) / 100)
    had = f"{expected:.0f} % before" if calls else "none before"
    return calls_now - fine_now <= allowed, f"{fine_now:,} of {calls_now:,} connections fine in {what} ({had})"
