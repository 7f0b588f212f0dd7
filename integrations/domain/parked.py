"""A job whose patience is over: parked, told to go on, and settled. It is never failed for a provider's outage."""

from datetime import datetime
from typing import Final
from uuid import UUID

from integrations.domain.message import Message

BY_HAND: Final = "ended by hand"
"""The outcome of one whose workflow was terminated: nobody knows what became of it at the provider."""
FAILED: Final = "failed"
"""The outcome of one that ended without a result: a person made it impossible meanwhile."""


class Parking(Message):
    """What is written down of a job that is parked."""

    provider_id: str
    connection_id: UUID
    tenant: str
    capability: str
    cause: str = ""
    """What its last attempt met. Empty: its workflow does not know."""
    times: int
    """Which of its job's parkings it is, from 1: a repeated step writes none twice."""


class Parked(Message):
    """A job that is parked, or goes on and is not done yet."""

    workflow_id: str
    run_id: str
    provider_id: str
    since: datetime
    times: int
    cause: str
    released_at: datetime | None
    """When it was told to go on. None: it waits for that."""

    @property
    def words(self) -> str:
        told = f"parked since {self.since:%Y-%m-%d %H:%M} UTC: {self.cause}"
        return told if self.released_at is None else f"{told}; it goes on since {self.released_at:%H:%M} UTC"


class Replaying(Message):
    """How far the replay of one provider's parked jobs and late refreshes is."""

    parked: int
    going: int
    """Told to go on, and without an outcome yet."""
    late: int
    """Told so long ago that nobody waits for it any more."""
    done: int
    refreshes: int
    """Connections whose refresh was put off for the provider's trouble, and was not tried since the replay began."""


class Waiting(Message):
    """What waits at one provider for its outage to be over, and what became of what went on."""

    parked: int
    """Jobs that wait to be told to go on."""
    released: int
    """Jobs that go on, and have no outcome yet."""
    outcomes: dict[str, int]
    """Of the jobs that have one: how many ended so."""

    @property
    def settled(self) -> int:
        return sum(self.outcomes.values())

    @property
    def over(self) -> bool:
        """Are all outcomes of jobs in?"""
        return not self.parked and not self.released
