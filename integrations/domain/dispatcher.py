"""A dispatcher of a ledger, as it says of itself, as the database shows its session, and as Temporal describes it."""

from datetime import datetime, timedelta
from typing import Final

from integrations.domain.message import Message

STALE: Final = timedelta(seconds=15)
"""A dispatcher says something every second while it works, and every 5 s when it is idle."""
_LOOPING: Final = timedelta(minutes=1)
"""A loop that fails again and again does so at least every 30 s."""


class Owner(Message):
    """A session that has partitions' locks, as the database shows it."""

    pid: int
    application: str
    wait: str
    """What it waits for now: `Client:ClientRead` is its own program."""
    parts: list[int]


class Workflow(Message):
    """A dispatcher's workflow, as Temporal describes it."""

    state: str
    """`running`, `not found`, or how it ended."""
    attempt: int = 0
    """Of its pending activity; 0 when none is."""
    failure: str = ""
    """The last failure of that activity."""


class Dispatcher(Message):
    number: int
    wished: bool = True
    """False: of an earlier scale, and should have ended."""
    worker: str = ""
    seen_at: datetime | None = None
    batch: int = 0
    errors: int = 0
    last_error: str = ""
    last_error_at: datetime | None = None
    owner: Owner | None = None
    workflow: Workflow | None = None
    """None: Temporal was not asked, or did not answer."""

    def fresh(self, now: datetime) -> bool:
        return self.seen_at is not None and now - self.seen_at <= STALE

    def fails(self, now: datetime) -> bool:
        """Now, and not once."""
        return self.last_error_at is not None and now - self.last_error_at <= _LOOPING


def listed(parts: list[int]) -> str:
    """`0-3, 7`."""
    runs: list[list[int]] = []
    for part in sorted(parts):
        if runs and part == runs[-1][1] + 1:
            runs[-1][1] = part
        else:
            runs.append([part, part])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs) or "none"
