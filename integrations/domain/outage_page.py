"""What people see of an outage: a line of a list, and everything that is known of one."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from integrations.domain.message import Message
from integrations.domain.outage import OURS, Baseline, Brake, Ended, Finding, Scope, Step, Target
from integrations.domain.outage_words import reach


class Standing(Message):
    """Where an outage stands, or how it ended."""

    outage: UUID
    provider: str
    scope: Scope
    names: tuple[str, ...]
    step: Step
    since: datetime
    by: str
    reason: str
    observed: bool
    """Only looked at: nothing was touched."""
    why_not: str | None
    """What keeps or kept the platform from acting."""
    percent: int | None
    """Of the full rate, that is let through. None: nobody has slowed anything down yet."""
    rate: float | None
    """The same in calls per second, where a brake is on."""
    relapses: int
    """How often it went back from the ramp to the trickle."""
    parked: int
    """Jobs that wait for its end, or go on and are not done yet."""
    done: int
    """Of the jobs that were parked: those that were done afterwards."""
    brakes: int
    """That are on."""
    lease_until: datetime | None
    """Of the brake whose lease ends first."""
    seen_at: datetime
    ended: Ended | None
    closed_at: datetime | None
    closed_by: str | None
    closed_reason: str | None

    @property
    def reach(self) -> str:
        return reach(self.scope, self.names)

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    def is_forgotten(self, now: datetime) -> bool:
        """Has nobody renewed its brakes for so long that they are to be released?"""
        return self.lease_until is not None and self.lease_until < now

    def shown(self) -> dict[str, Any]:
        return self.model_dump() | {"reach": self.reach, "next": self.next}

    @property
    def next(self) -> str:
        """The command that leads on."""
        if self.observed and self.is_open:
            return "runbook automation"
        return f"runbook outage explain {self.provider}" + ("" if self.is_open else f" --outage {self.outage}")


class Note(Message):
    """A line of the timeline."""

    at: datetime
    step: Step
    what: str
    percent: int | None
    rate: float | None
    facts: Mapping[str, Any]


class Braked(Message):
    """A line of the undo journal."""

    brake: Brake
    provider: str
    name: str
    rate: float | None
    """Calls per second. None: of a shield."""
    reason: str
    put_by: str
    put_at: datetime
    changed_at: datetime
    lease_until: datetime
    released_at: datetime | None
    released_by: str | None
    released_reason: str | None

    @property
    def words(self) -> str:
        what = Target(provider_id=self.provider, brake=self.brake, name=self.name).words
        return what if self.rate is None else f"{what} ({self.rate:.3g}/s)"


class Traffic(Message):
    """Calls that were made in one column of the chart."""

    column: int
    calls: int
    failing: int


class Explained(Message):
    """Everything that rows know of one outage."""

    standing: Standing
    finding: Finding | None
    """None: a person opened it, and no look at calls found it."""
    baseline: Baseline | None
    timeline: tuple[Note, ...]
    journal: tuple[Braked, ...]
    parked: Mapping[str, int]
    """By outcome; `parked` and `going on` for those that have none."""
    start: datetime
    end: datetime
    """Of the chart: a little more than the outage."""
    traffic: tuple[Traffic, ...] | None
    """None: there are too many calls to be counted in time."""
    now: datetime

    @property
    def steps(self) -> list[tuple[datetime, int]]:
        """From when on how many per cent were let through: what the ramp is drawn from."""
        found = [(each.at, each.percent) for each in self.timeline if each.percent is not None]
        closed = self.standing.closed_at
        return [*found, (closed, 100)] if found and closed is not None else found

    @property
    def following(self) -> str:
        return following(self.standing, self.now)


def following(at: Standing, now: datetime) -> str:
    """What comes next, in a sentence."""
    if at.closed_at is not None:
        return f"Nothing: it ended at {at.closed_at:%H:%M:%S} UTC ({at.ended}, {at.closed_by}): {at.closed_reason}"
    if at.observed:
        return f"Nothing by itself: {at.why_not}. It is acted on when that ends, and closed when calls succeed again."
    if at.is_forgotten(now):
        return "Nobody renews its brakes any more: reconcile releases them or calls a person, within a minute."
    if at.why_not:
        return f"Nothing by itself: {at.why_not}. What is on stays on until that ends, or somebody closes it."
    return _NEXT[at.step]


_NEXT = {
    Step.SCOPE: "How far it reaches is decided by the calls and a few probes; then only that is slowed down.",
    Step.CONTAIN: "Calls are being slowed down to a trickle.",
    Step.SHIELD: "The shield goes up: from then on no terminal answer is acted on.",
    Step.HOLD: "Jobs wait. The first probe follows; after a hold by hand, when that is over.",
    Step.PROBE: "A probe at a time, further apart while they fail. After enough successes in a row: 5 % of the rate.",
    Step.RAMP: "5, 10, 25, 50 and 100 % of the rate, each when the one before it went well. A bad one goes back.",
    Step.REPLAY: "Parked jobs and refreshes that were put off go out, behind what is new. Then success is compared.",
    Step.VALIDATE: "Success is compared with the time before. It stays open until it is as good again.",
    Step.CLOSE: "It is being closed.",
}


def span(since: datetime, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """What a chart shows: the outage, a little of before, and a little of after where that is known."""
    around = max(((until or now) - since) / 10, timedelta(seconds=15))
    return since - around, min((until or now) + around, now)


def concerns(standing: Sequence[Standing], provider: str) -> list[Standing]:
    """Those that are about one provider, our own way out among them where it is seen there."""
    return [
        each for each in standing if each.provider == provider or (each.provider == OURS and provider in each.names)
    ]
