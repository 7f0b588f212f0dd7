"""What would have been an outage, minute by minute, by the rules of the detector."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from integrations.domain.message import Message
from integrations.domain.outage import Limits, Scope
from integrations.domain.outage_look import Group, Suspect, ours, suspects

MINUTE: Final = timedelta(minutes=1)
_APART: Final = timedelta(minutes=5)
"""Between two of one provider: what trips again sooner is the same one."""


class Minute(Message):
    """The groups of calls that trip in one minute, and how many providers were called in it."""

    at: datetime
    groups: tuple[Group, ...]
    called: int


class Episode(Message):
    """From the first minute that trips to the end of the last one."""

    provider_id: str
    names: tuple[str, ...] = ()
    """Of our own way out: the providers."""
    since: datetime
    until: datetime
    calls: int
    """In the minutes that trip."""
    failing: int
    why: str = ""
    quiet: bool = False
    """By its last calls, over any time: probes would have been asked."""

    @property
    def found_at(self) -> datetime:
        """When the detector would have looked at its matrix: right behind these calls."""
        return self.until + timedelta.resolution if self.quiet else self.since + MINUTE


class WouldBe(Message):
    """An outage that would have been found."""

    provider: str
    scope: Scope
    names: tuple[str, ...]
    since: datetime
    until: datetime
    calls: int
    failing: int
    certain: bool
    """False: probes would have had to confirm it."""
    why: str

    @property
    def share(self) -> float:
        """Per cent."""
        return 100 * self.failing / self.calls


def episodes(minutes: Iterable[Minute], limits: Limits, families: Mapping[str, str]) -> list[Episode]:
    """What trips from minute to minute, put together. `minutes`: in the order of time."""
    found: list[Episode] = []
    last: dict[str, int] = {}
    for minute in minutes:
        for each in _of_minute(minute, limits, families):
            at = last.get(each.provider_id)
            if at is not None and each.since - found[at].until <= _APART:
                found[at] = _longer(found[at], each)
            else:
                last[each.provider_id] = len(found)
                found.append(each)
    return found


def _of_minute(minute: Minute, limits: Limits, families: Mapping[str, str]) -> list[Episode]:
    until = minute.at + MINUTE
    suspected = suspects(minute.groups, until, MINUTE, limits)
    together = ours(suspected, minute.called, families)
    found = [_episode(each, until) for each in suspected if together is None or each.provider_id not in together.names]
    if together is not None:
        found.append(
            Episode(
                provider_id=together.provider_id,
                names=together.names,
                since=minute.at,
                until=until,
                calls=together.calls,
                failing=together.failing,
                why=together.why,
            )
        )
    return found


def _episode(suspect: Suspect, until: datetime) -> Episode:
    return Episode(
        provider_id=suspect.provider_id,
        since=suspect.since,
        until=until,
        calls=suspect.calls,
        failing=suspect.failing,
    )


def _longer(one: Episode, more: Episode) -> Episode:
    names = tuple(sorted({*one.names, *more.names}))
    told = {"until": more.until, "calls": one.calls + more.calls, "failing": one.failing + more.failing, "names": names}
    return one.model_copy(update=told)


def would_be(episode: Episode, scope: Scope, names: tuple[str, ...], why: str) -> WouldBe:
    return WouldBe(
        provider=episode.provider_id,
        scope=scope,
        names=names,
        since=episode.since,
        until=episode.until,
        calls=episode.calls,
        failing=episode.failing,
        certain=not episode.quiet,
        why=why,
    )
