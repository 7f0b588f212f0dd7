"""Does it all hold? What an audit of webhooks measured, and what of it somebody should do something about."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from integrations.domain.message import Message
from integrations.domain.trouble import Trouble
from integrations.domain.webhook_channel import Channel

SECRET_AGE: Final = timedelta(days=365)
_RETIRED_WITHIN: Final = timedelta(minutes=15)
"""Reconcile does so each minute."""
_TESTED_WITHIN: Final = timedelta(minutes=15)
_NEW_SECRET: Final = "runbook connections webhook-secret"  # noqa: S105 - a command


class Horizon(Message):
    """How long a provider goes on repeating a delivery, against how long we know one again."""

    provider: str
    identity: str
    """`id` or `digest`: what a repeat is known by."""
    horizon: timedelta | None
    """None: its pages do not say."""
    window: timedelta
    notices: timedelta | None = None
    """The same for notices that make us do something and come without an id. None: all have one."""
    per_day: int | None
    """Bytes that a day's deliveries take. None: not measured in time."""
    rows_per_day: int | None

    @property
    def cost(self) -> int | None:
        """Bytes that the window takes."""
        return None if self.per_day is None else int(self.per_day * (self.window / timedelta(days=1)))


class Known(Message):
    """A channel, and what the catalog says of its provider now."""

    channel: Channel
    hash: str | None
    """Of what a self-test would be made with now. None: the catalog has no webhooks of this provider."""

    @property
    def tested(self) -> bool:
        return self.channel.tested_hash == self.hash


class Audit(Message):
    at: datetime
    ledger: str
    """What kept a row from being inserted; empty when one was, and rolled back."""
    held: str
    """Why nothing is handled now, if a person wants it so."""
    horizons: list[Horizon]
    channels: list[Known]
    stuck: dict[str, int] | None
    """How many of each kind. None: not counted in time, as with the next."""
    illegal: dict[str, int] | None


def findings(audit: Audit, secret_age: timedelta = SECRET_AGE) -> list[Trouble]:
    """Everything that somebody should do something about, the worst first."""
    return [
        *_ledger(audit),
        *(found for each in audit.channels for found in _channel(each, audit.at, secret_age)),
        *(found for each in audit.horizons for found in _horizon(each)),
    ]


def _ledger(audit: Audit) -> Iterator[Trouble]:
    if audit.ledger:
        yield Trouble(what=f"the ledger takes no delivery: {audit.ledger}", next="runbook doctor")
    for what, count in (audit.illegal or {}).items():
        yield Trouble(what=f"{count:,} {what}: somebody wrote that by hand, or it is a defect", next=_LOOK)
    for what, count in (audit.stuck or {}).items():
        if count and not (audit.held and what.startswith("pending")):
            yield Trouble(what=f"{count:,} {what}", next=_LOOK)


_LOOK: Final = "runbook webhooks status"


def _channel(each: Known, now: datetime, secret_age: timedelta) -> Iterator[Trouble]:
    channel = each.channel
    if each.hash is None:
        what = f"{channel.name}: the catalog says nothing of webhooks of {channel.provider}; all that comes is refused"
        yield Trouble(
            what=what, since=channel.made_at, next=f"runbook webhooks close {channel.provider} {channel.channel}"
        )
        return
    if channel.orphaned:
        what = f"{channel.name} is open, and its connection is disconnected: what comes is nobody's"
        yield Trouble(
            what=what, since=channel.made_at, next=f"runbook webhooks close {channel.provider} {channel.channel}"
        )
    if not channel.secrets:
        yield Trouble(
            what=f"{channel.name} has no live secret: all that comes is refused",
            since=channel.made_at,
            next=_NEW_SECRET,
        )
        return
    for secret in channel.secrets:
        if secret.ends_at is None and now - secret.made_at > secret_age:
            what = f"{channel.name}: secret {secret.version} is {(now - secret.made_at).days} days old"
            yield Trouble(what=f"{what}, and {secret_age.days} are allowed", since=secret.made_at, next=_NEW_SECRET)
    for secret in channel.overdue:
        if secret.ends_at is not None and now - secret.ends_at > _RETIRED_WITHIN:
            what = f"{channel.name}: secret {secret.version} is past its overlap and still kept"
            yield Trouble(what=what, since=secret.ends_at, next="runbook doctor")
    yield from _self_test(each, now)


def _self_test(each: Known, now: datetime) -> Iterator[Trouble]:
    channel = each.channel
    command = f"runbook webhooks self-test {channel.provider} {channel.channel}"
    if each.tested:
        if not channel.passed:
            what = f"{channel.name} failed its self-test: {'; '.join(channel.failures)}"
            yield Trouble(what=what, since=channel.tested_at, next=command)
    elif now - max(_changes(channel)) > _TESTED_WITHIN:
        what = "was never tested" if channel.tested_at is None else "was not tested since it changed"
        yield Trouble(what=f"{channel.name} {what}", since=channel.tested_at, next=command)


def _changes(channel: Channel) -> Iterator[datetime]:
    """When what is accepted changed: a secret more, or one less."""
    yield from (secret.made_at for secret in channel.secrets)
    yield from (secret.ends_at for secret in channel.overdue if secret.ends_at is not None)


def _horizon(each: Horizon) -> Iterator[Trouble]:
    if each.horizon is not None and each.horizon > each.window:
        what = f"{each.provider} repeats for {_days(each.horizon)}, and a repeat is known for {_days(each.window)}"
        yield Trouble(
            what=f"{what}: later ones are handled twice", next=f"set RUNBOOK_WEBHOOKS_KEPT={each.horizon.days + 1}d"
        )


def _days(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours / 24:g} d" if hours >= 24 else f"{hours:g} h"  # noqa: PLR2004 - hours of a day
