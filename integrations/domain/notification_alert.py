"""Whether operators are told that messages or webhooks are given up, and what: decided from counts, once an hour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

EVENT: Final = "notification.dead_letters"
WEBHOOKS: Final = "webhook.dead_letters"
EVERY: Final = timedelta(hours=1)
"""Whoever was told is at it: what dies meanwhile is in the next one."""
_ALERTS: Final = UUID("6b2a6f0e-9d0f-5c3e-8a53-0f7a4a1f5d6b")
_CAUSES: Final = 10


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Those of one channel that were given up for one cause."""

    channel: str
    """`email`; of webhooks `github/app`."""
    cause: str
    dead: int
    more: int
    """Of these, since operators were told."""
    since: datetime
    """When the first of those was."""


@dataclass(frozen=True, slots=True)
class Alert:
    event_id: UUID
    """The same for whoever decides it in the same hour."""
    payload: Mapping[str, Any]


def alert(found: Sequence[DeadLetters], told_at: datetime | None, now: datetime, event: str = EVENT) -> Alert | None:
    """What operators are told by now. None: nothing more is dead, or they were told within the hour."""
    more = sum(each.more for each in found)
    if not more or (told_at is not None and now - told_at < EVERY):
        return None
    worst = sorted(found, key=lambda each: -each.dead)[:_CAUSES]
    payload = {
        "dead": sum(each.dead for each in found),
        "more": more,
        "since": (told_at or min(each.since for each in found)).isoformat(),
        "causes": [{"channel": each.channel, "cause": each.cause, "dead": each.dead} for each in worst],
    }
    hour = f"{now:%Y-%m-%d %H}"
    return Alert(uuid5(_ALERTS, hour if event == EVENT else f"{event} {hour}"), payload)
