"""How fast a replay goes, in which stages, and how many may fail again on the way."""

import re
from dataclasses import dataclass
from typing import Final

from integrations.domain.errors import WrongUsageError
from integrations.domain.message import Message

FASTEST: Final = 100_000
"""Items a second: no database of one machine replays more, so a higher rate would say nothing."""
RATE: Final = 500
"""Items a second, when nobody says otherwise."""
SHARE: Final = 0.05
"""Of a stage's items may fail again, after the canaries."""
CANARIES: Final = (1, 10)
"""The first stages, of so many items in all. Not one of these may fail again."""
_PERCENT: Final = 100


class Budget(Message):
    """How many of a stage's items may fail again before the replay stops."""

    share: float = SHARE
    count: int | None = None
    """In place of the share."""

    @classmethod
    def read(cls, text: str) -> "Budget":
        """`5%`, `0.05` or a number of items, such as `20`. Raises WrongUsageError for anything else."""
        word = text.strip()
        if re.fullmatch(r"[0-9]{1,9}", word):
            return cls(count=int(word))
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(%?)", word)
        share = float(match[1]) / (_PERCENT if match[2] else 1) if match else -1.0
        if not 0 <= share <= 1:
            raise WrongUsageError(
                f"--max-failures {text[:40]!r} is neither a share, as 5% or 0.05, nor a number of items, as 20"
            )
        return cls(share=share)

    def of(self, stage: "Stage") -> int:
        """Failures that the stage may have."""
        if stage.canary:
            return 0
        return int(stage.items * self.share) if self.count is None else self.count

    def __str__(self) -> str:
        return f"{self.share:.4g} of a stage" if self.count is None else f"{self.count:,} in a stage"


@dataclass(frozen=True)
class Stage:
    """The items from `first` on, up to and with `upto`."""

    name: str
    first: int
    upto: int
    canary: bool

    @property
    def items(self) -> int:
        return self.upto - self.first + 1


def stages(count: int) -> list[Stage]:
    """One item, ten in all, one percent in all, and the rest; without those that are no smaller than the plan.

    A plan is `count` items, 1 or more.
    """
    ends = [(f"the first {end}" if end > 1 else "the first item", end, True) for end in CANARIES]
    ends.append(("one percent", count // _PERCENT, False))
    found: list[Stage] = []
    done = 0
    for name, end, canary in ends:
        if done < end < count:
            found.append(Stage(name, done + 1, end, canary))
            done = end
    # A plan of one item has no canary before it: it is the canary.
    return [*found, Stage("the rest" if found else "all of it", done + 1, count, canary=count == 1)]


def check_rate(rate: int) -> None:
    """Raise WrongUsageError for a pace that is none."""
    if rate < 1:
        raise WrongUsageError(
            f"a rate of {rate}/s would never end: 1 to {FASTEST:,} a second. To hold a running replay: "
            "runbook replays pause ID"
        )
    if rate > FASTEST:
        raise WrongUsageError(f"a rate of {rate:,}/s is above the cap of {FASTEST:,}/s: no database replays more")


def read_rate(text: str) -> int:
    """`500` or `500/s`. Raises WrongUsageError, also for a pace that is none."""
    match = re.fullmatch(r"(-?[0-9]{1,12})(?:/s)?", text.strip())
    if match is None:
        raise WrongUsageError(f"{text[:40]!r} is no rate: write 500/s, items a second")
    check_rate(int(match[1]))
    return int(match[1])
