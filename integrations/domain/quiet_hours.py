"""When an owner may be written to: never at night, where they are."""

import re
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from integrations.domain.message import Message

_DAY: Final = 24


class QuietHours(Message):
    """From `starts` until `ends`, whole hours of the owner's own clock. The same number twice: there are none."""

    zone: str = "UTC"
    starts: int = 20
    ends: int = 8

    @classmethod
    def read(cls, zone: str, hours: str) -> "QuietHours":
        """From what a person writes: `Europe/Berlin` and `20-8`. Raises ValueError, which names what is wrong."""
        match = re.fullmatch(r"([0-9]{1,2})-([0-9]{1,2})", hours.strip())
        if match is None or not all(int(hour) < _DAY for hour in match.groups()):
            raise ValueError(f"{hours[:20]!r} are no hours: write 20-8, or 0-0 for none")
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{zone[:60]!r} is no time zone: write one like Europe/Berlin") from None
        return cls(zone=zone, starts=int(match[1]), ends=int(match[2]))

    def after(self, at: datetime) -> datetime:
        """The moment itself, or the end of the quiet hours that it falls into. A zone nobody knows is UTC."""
        try:
            local = at.astimezone(ZoneInfo(self.zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return self.model_copy(update={"zone": "UTC"}).after(at)
        if not self._are_at(local.hour):
            return at
        morning = local.replace(hour=self.ends, minute=0, second=0, microsecond=0)
        if morning <= local:
            # By the calendar and not by 24 hours: the clocks may change in this very night.
            morning = (local.replace(tzinfo=None) + timedelta(days=1)).replace(
                hour=self.ends, minute=0, second=0, microsecond=0, tzinfo=local.tzinfo
            )
        return morning.astimezone(at.tzinfo)

    def _are_at(self, hour: int) -> bool:
        if self.starts <= self.ends:
            return self.starts <= hour < self.ends
        return hour >= self.starts or hour < self.ends
