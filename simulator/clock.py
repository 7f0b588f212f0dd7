"""How times are written for people and programs, and the provider's own clock, which may be wrong on purpose."""

from datetime import UTC, datetime
from email.utils import formatdate

from simulator.settings import SettingsBook


def iso(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds, such as 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def http_date(seconds: float) -> str:
    """The form that headers have (RFC 9110 section 5.6.7), such as Sat, 31 Jan 2026 12:00:00 GMT."""
    return formatdate(seconds, usegmt=True)


class Clock:
    """What applications are told and what expires goes by it; the request log and the admin API tell the right time."""

    def __init__(self, settings: SettingsBook) -> None:
        self._settings = settings

    def at(self, right: float) -> float:
        """What this clock shows at that moment."""
        return right + self._settings.current.clock_skew_s
