"""What the pages of all ledgers show in the same way: ages, counts and troubles."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from integrations.domain.trouble import Trouble
from starters.shell import ago, out

NOT_COUNTED: Final = "not counted in time"


def show_troubles(found: Sequence[Trouble], now: datetime, *, none: str = "Fine.") -> None:
    """Each with its command, or the sentence that says that there is none."""
    if not found:
        out.print(none, markup=False)
    for trouble in found:
        since = f" ({ago(now - trouble.since)})" if trouble.since else ""
        out.print(f"TROUBLE  {trouble.what}{since}\n         {trouble.next}", markup=False)


def count(number: int | None) -> str:
    return NOT_COUNTED if number is None else f"{number:,}"


def attempt(entry: Mapping[str, Any]) -> str:
    """A line of an item's history: when, which one, and by whom."""
    by = f" by {entry['by']}" if entry.get("by") else ""
    return f"{str(entry.get('at', ''))[:19]} #{entry.get('attempt', '?')}{by}"


def age(at: datetime | None, now: datetime) -> str:
    return ago(max(now - at, timedelta())).removesuffix(" ago") if at else "-"
