"""A drawing of the report: what was let through over time, and the calls that the provider saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from integrations.domain.outage_chart import COLUMNS, levels

_HEIGHT: Final = 100
_LEAST: Final = 1.5
"""A trickle is seen as well."""


@dataclass(frozen=True)
class Bar:
    """In a drawing that is 600 wide and 100 high; `y` from above."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Drawing:
    title: str
    start: datetime
    end: datetime
    lines: Sequence[str]
    """The same as text."""
    steps: Sequence[tuple[datetime, int]]
    """From when on how many per cent were let through."""
    calls: Sequence[datetime]
    failed: Sequence[datetime]
    """Of the calls: those that the provider answered with its trouble."""

    @property
    def let_through(self) -> list[Bar]:
        reached = levels(self.steps, self.start, self.end)
        return [_bar(column, max(percent, _LEAST) / _HEIGHT) for column, percent in enumerate(reached)]

    @property
    def bars(self) -> list[tuple[Bar, Bar]]:
        """Of each column all calls, and those that failed."""
        calls, failed = self._counted(self.calls), self._counted(self.failed)
        most = max([*calls, 1])
        return [(_bar(n, calls[n] / most), _bar(n, failed[n] / most)) for n in range(COLUMNS)]

    @property
    def most(self) -> float:
        """Calls a second in the busiest column."""
        return max(self._counted(self.calls)) / ((self.end - self.start).total_seconds() / COLUMNS)

    def _counted(self, moments: Sequence[datetime]) -> list[int]:
        width = (self.end - self.start) / COLUMNS
        counts = [0] * COLUMNS
        for at in moments:
            if self.start <= at < self.end:
                counts[int((at - self.start) / width)] += 1
        return counts


def _bar(column: int, share: float) -> Bar:
    width = 600 / COLUMNS
    height = max(share * _HEIGHT, _LEAST if share else 0)
    return Bar(column * width, _HEIGHT - height, width, height)
