"""How times are written for people and programs."""

from datetime import UTC, datetime


def iso(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds, such as 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
