"""What other programs took of the processors while we measured: a ratio is worth less the more that was."""

import os
import time
from typing import Final

import psutil

_WORKING: Final = ("user", "nice", "system", "irq", "softirq", "steal")


class Neighbours:
    """Made before the first benchmark, asked after the last: only children that have ended are counted as ours."""

    def __init__(self) -> None:
        self._start = time.monotonic(), _everybody(), ours()

    def share(self) -> float:
        """From 0 to 1, of all processors."""
        now = time.monotonic(), _everybody(), ours()
        seconds, everybody, us = (after - before for before, after in zip(self._start, now, strict=True))
        return min(1.0, max(0.0, everybody - us) / seconds / (psutil.cpu_count() or 1))


def ours() -> float:
    """Seconds of this process, and of its descendants that were waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _everybody() -> float:
    spent = psutil.cpu_times()
    return sum(float(getattr(spent, name, 0.0)) for name in _WORKING)
