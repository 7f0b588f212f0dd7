"""How long, as people write it: `14d`, `12h`, `30m`, `90s`; in a benchmark `200ms`."""

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST: Final = timedelta(days=36_500)
"""What is that far from now is still a date."""
EXAMPLES: Final = "14d, 12h, 30m or 90s"


def duration(text: str) -> timedelta:
    """Read one. Raises ValueError, which says what is wrong, for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})(ms|[smhd])", text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is not written like {EXAMPLES}")
    found = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if found > _LONGEST:
        raise ValueError(f"{text[:40]!r} is longer than a hundred years")
    return found
