"""What a contract test comes to: a line for each check, and what to correct when it is not as the entry says."""

from datetime import timedelta
from enum import StrEnum

from integrations.domain.message import Message


def length(duration: timedelta) -> str:
    """As the catalog writes it: `90s`, `15m`, `12h`, `3d`."""
    seconds = round(duration.total_seconds())
    unit, size = next(
        (unit, size) for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)) if not seconds % size
    )
    return f"{seconds // size}{unit}" if seconds else "0s"


class State(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_REACHED = "not_reached"
    """A step before it failed, and it needs that one."""


class Check(Message):
    name: str
    state: State
    expected: str = ""
    heard: str = ""
    correct: tuple[str, ...] = ()
    """The keys of the entry to look at when it failed."""


class Outcome(Message):
    id: str
    name: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> int:
        return sum(check.state is State.FAILED for check in self.checks)

    @property
    def passed(self) -> int:
        return sum(check.state is State.PASSED for check in self.checks)
