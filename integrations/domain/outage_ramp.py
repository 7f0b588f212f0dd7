"""Bringing calls back: a step up, a step down, or back to the trickle. Pure; what was counted decides.

                  enough calls, nearly all of them fine, and some time ──▶ the next step
5 ▶ 10 ▶ 25 ▶ 50 ▶ 100 %
                  too few are fine ──▶ the step before      half of them fail ──▶ contained again
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final

from integrations.domain.outage import RAMP, SOME, Limits, Sample


class Judged(StrEnum):
    STAY = "stay"
    UP = "up"
    DOWN = "down"
    RELAPSE = "relapse"
    """It is as bad as what an outage is called for."""


def judge(
    sample: Sample, lasted: timedelta, limits: Limits, usual: float = 100.0, whole: Sample | None = None
) -> Judged:
    """What follows from a step of the ramp that has lasted so long.

    `sample`: the calls of its last part. `usual`: per cent that did not fail before. `whole`: all calls of the step,
    where the last part has too few to say anything by themselves.
    """
    rare = whole if whole is not None and sample.calls < SOME else Sample()
    if sample.is_relapse(limits, usual) or rare.is_relapse(limits, usual):
        return Judged.RELAPSE
    if not sample.is_fine(limits, usual):
        return Judged.DOWN if sample.failing >= SOME else Judged.STAY
    if sample.calls >= limits.step_calls and lasted >= limits.step:
        return Judged.UP
    if not rare.is_fine(limits, usual):
        return Judged.STAY
    # Nobody calls, so nothing more is learned: it must not stay braked for that.
    return Judged.UP if lasted >= max(limits.step_quiet, limits.step) else Judged.STAY


def above(percent: int) -> int | None:
    """The step after this one. None: everything is let through."""
    return next((each for each in RAMP if each > percent), None)


def below(percent: int) -> int | None:
    """The step before this one. None: there is only the trickle."""
    return next((each for each in reversed(RAMP) if each < percent), None)


def next_wait(wait: timedelta | None, limits: Limits, asked: timedelta | None = None) -> timedelta:
    """Before the next probe, after one that failed: twice as long each time, and as long as the provider asks for."""
    doubled = limits.probe_first if wait is None else min(wait * 2, limits.probe_most)
    return max(doubled, min(asked, LONGEST)) if asked else doubled


LONGEST: Final = timedelta(minutes=15)
"""That a whole provider is believed when it asks to be left alone (Retry-After): it may be about one caller's quota."""
