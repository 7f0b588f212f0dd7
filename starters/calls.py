"""What providers answered in the last minutes, a line for each provider."""

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from integrations.domain.call import Count

WINDOW: Final = timedelta(minutes=10)
HEADINGS: Final = ("PROVIDER", "CALLS", "OF THE LAST TEN MINUTES, BY WHAT WAS ANSWERED")


def by_outcome(counts: Iterable[Count]) -> dict[str, Counter[str]]:
    """For each provider that was called: how many calls went which way."""
    found: dict[str, Counter[str]] = {}
    for each in counts:
        found.setdefault(each.provider_id, Counter())[each.outcome] += each.calls
    return found


def lines(found: dict[str, Counter[str]]) -> list[tuple[str, str, str]]:
    """The most frequent outcome first."""
    return [
        (provider_id, f"{outcomes.total():,}", ", ".join(f"{n:,} {outcome}" for outcome, n in outcomes.most_common()))
        for provider_id, outcomes in found.items()
    ]
