"""When a waiting lifecycle presses whom: the owner by reminders, the operators by one escalation.

Only the clock's arithmetic: what the `open` step said, what a person put off, and what is due now.
"""

from collections.abc import Sequence
from datetime import datetime


class Pressing:
    def __init__(self, now: datetime) -> None:
        self._reminders: tuple[datetime, ...] = ()
        self._escalate_at: datetime | None = None
        self._reminded_at = now
        self._snoozed_until = now

    def expect(self, remind_at: Sequence[datetime], escalate_at: datetime | None) -> None:
        """Take over the times. A second look, such as after a second detection, repeats no reminder."""
        self._reminders = tuple(sorted(at for at in remind_at if at > self._reminded_at))
        self._escalate_at = escalate_at

    def acknowledged(self) -> None:
        self._escalate_at = None

    def reminded(self, now: datetime) -> None:
        self._reminded_at = now

    def snooze(self, until: datetime) -> None:
        self._snoozed_until = until

    def next(self, deadline: datetime) -> datetime:
        """When to look again, at the latest at the deadline."""
        due = [*self._reminders[:1], *([self._escalate_at] if self._escalate_at else [])]
        # Nobody is pressed before the date that a person named.
        return min([deadline, *(max(at, self._snoozed_until) for at in due)])

    def take_reminder(self, now: datetime) -> datetime | None:
        """The reminder that is due. Several that fell together, as after a snooze, are one."""
        if now < self._snoozed_until:
            return None
        due = [at for at in self._reminders if at <= now]
        if not due:
            return None
        self._reminders = tuple(at for at in self._reminders if at > now)
        self._reminded_at = now
        return due[-1]

    def take_escalation(self, now: datetime) -> datetime | None:
        """The escalation that is due."""
        if now < self._snoozed_until or self._escalate_at is None or self._escalate_at > now:
            return None
        due, self._escalate_at = self._escalate_at, None
        return due

    def words(self, now: datetime) -> str:
        """What comes next, for whoever looks; nothing when nothing does."""
        told = [f"snoozed until {_minute(self._snoozed_until)}"] if self._snoozed_until > now else []
        if self._reminders:
            told.append(f"reminder {_minute(max(self._reminders[0], self._snoozed_until))}")
        if self._escalate_at:
            told.append(f"escalated {_minute(max(self._escalate_at, self._snoozed_until))} unless acknowledged")
        return "; ".join(told)


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
