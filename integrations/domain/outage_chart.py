"""The ramp of an outage in text: how much was let through over time, with the calls that were made beneath."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from integrations.domain.outage import RAMP
from integrations.domain.outage_page import Explained

COLUMNS: Final = 60
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_MARGIN: Final = 10
_DAY: Final = 86400


def chart(told: Explained) -> list[str]:
    """Lines of at most 100 characters; none when nothing was slowed down and no call is known."""
    lines = _ramp(told) if told.steps else []
    lines += _traffic(told) if told.traffic else []
    return [*lines, _axis(told.start, told.end)] if lines else []


def levels(steps: Sequence[tuple[datetime, int]], start: datetime, end: datetime, columns: int = COLUMNS) -> list[int]:
    """What was let through at the end of each column, in per cent: 100 before the first step."""
    width = (end - start) / columns
    ends = [start + width * (column + 1) for column in range(columns)]
    return [next((percent for at, percent in reversed(steps) if at <= until), 100) for until in ends]


def _ramp(told: Explained) -> list[str]:
    """A column reaches up to the highest step of the ramp that was let through; below that it is a trickle."""
    reached = levels(told.steps, told.start, told.end)
    lines = [
        f"{step:>6} %  " + "".join("█" if percent >= step else " " for percent in reached) for step in reversed(RAMP)
    ]
    return [*lines, f"{'trickle':>8}  " + "▔" * COLUMNS]


def _traffic(told: Explained) -> list[str]:
    seconds = (told.end - told.start).total_seconds() / COLUMNS
    calls, failing = [0] * COLUMNS, [0] * COLUMNS
    for each in told.traffic or ():
        if 0 <= each.column < COLUMNS:
            calls[each.column], failing[each.column] = each.calls, each.failing
    most = max(calls)
    return [
        f"{'calls':>8}  {_bars(calls, most)}  at most {most / seconds:.3g}/s",
        f"{'failing':>8}  {_bars(failing, most)}  {sum(failing):,} of {sum(calls):,}",
    ]


def _bars(values: Sequence[int], most: int) -> str:
    """Anything at all is seen: the lowest block is one call as well."""
    last = len(_BLOCKS) - 1
    return "".join(_BLOCKS[-(-value * last // most)] if value else _BLOCKS[0] for value in values)


def _axis(start: datetime, end: datetime) -> str:
    form = "%H:%M:%S" if (end - start).total_seconds() < _DAY else "%m-%d %H:%M"
    left, right = f"{start:{form}}", f"{end:{form}} UTC"
    return " " * _MARGIN + left + right.rjust(COLUMNS - len(left))
