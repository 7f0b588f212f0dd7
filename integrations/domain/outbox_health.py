"""How the outbox stands, and what becomes of its lag: from numbers, with pencil and paper."""

from datetime import timedelta
from typing import Final

from integrations.domain.message import Message

_GAINING: Final = 1.1
"""Arrivals over settles that are more than what two samples differ by."""


class Rates(Message):
    """What came and went, each a second, between a sample and now."""

    seconds: float
    """The time between the two."""
    arrived: float
    settled: float


class Forecast(Message):
    """When the lag is within its objective."""

    within: bool
    """It is now."""
    known: bool = True
    after: timedelta | None = None
    """Back within it after that long, at this rate. None while it is within, or will not be back."""
    text: str


def forecast(lag: timedelta, slo: timedelta, pending: int | None, rates: Rates | None, *, drained: bool) -> Forecast:
    """What to expect of the lag.

    `lag`: the age of the oldest pending event, zero when none is. `pending`: how many there are, None when that could
    not be counted. `drained`: a dispatcher is alive.
    """
    within = lag <= slo
    if not drained:
        return Forecast(within=within, text="nobody drains")
    if rates is None or pending is None:
        text = "within the SLO" if within else "not known yet: a rate needs two samples, which take 10 s"
        return Forecast(within=within, known=within, text=text)
    come, go = rates.arrived, rates.settled
    if within:
        left = _until_over(pending, come, go, slo)
        text = f"within the SLO, for about {_long(left)} more: {_pace(rates)}" if left else "within the SLO"
        return Forecast(within=True, text=text)
    after = _until_back(pending, come, go, slo)
    if after is None:
        return Forecast(within=False, text=f"not at this rate: {_pace(rates)}")
    return Forecast(within=False, after=after, text=f"back within it in about {_long(after)} at this rate")


def _until_back(pending: int, come: float, go: float, slo: timedelta) -> timedelta | None:
    """What is pending now has gone after pending / go; whatever comes meanwhile is younger than that."""
    objective = slo.total_seconds()
    if go <= 0:
        return None
    if pending / go <= objective:
        return timedelta(seconds=pending / go)
    if go <= come:
        return None
    return timedelta(seconds=(pending - come * objective) / (go - come))


def _until_over(pending: int, come: float, go: float, slo: timedelta) -> timedelta | None:
    """When a growing backlog is an objective's worth of arrivals. None when it does not grow to speak of."""
    if come <= go * _GAINING or pending < come:
        return None
    return timedelta(seconds=max(0.0, come * slo.total_seconds() - pending) / (come - go))


def _pace(rates: Rates) -> str:
    return f"{per_second(rates.arrived)} arrive, {per_second(rates.settled)} go"


def per_second(rate: float) -> str:
    """`120/s`, `0.4/s`."""
    return f"{rate:,.0f}/s" if rate >= 10 or rate == 0 else f"{rate:.1f}/s"  # noqa: PLR2004 - one digit says enough


def _long(time: timedelta) -> str:
    """As a person says it: `40 s`, `3 min`, `2 h`."""
    seconds = max(1, round(time.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{seconds} s"
