"""Who is told of an event, by which channel, and why: decided from what is known, without sending anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from integrations.domain.audience import is_owner, way_to_reach
from integrations.domain.ledger import Failure
from integrations.domain.notification import OWNER, Definition, Mode, News, Recipient


@dataclass(frozen=True, slots=True)
class Addressed:
    """One message that is to be: for whom, by which channel, from when on and until when."""

    definition: Definition
    recipient: str
    channel: str
    address_id: UUID
    due_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Unreached:
    """Somebody, or everybody, whom no channel of the definition reaches."""

    definition: Definition
    recipient: str
    """Empty: the audience has nobody in it."""
    failure: Failure
    expires_at: datetime


def audience_of(definition: Definition, news: News) -> str:
    return news.tenant if definition.audience == OWNER else definition.audience


def addressed(
    definition: Definition,
    news: News,
    recipients: Sequence[Recipient],
    unready: Mapping[str, str],
    now: datetime,
    *,
    without: Sequence[str] = (),
) -> list[Addressed | Unreached]:
    """Each recipient of one definition, with the channels that it goes by, or why by none.

    `unready`: channels that cannot send, with what they lack. `without`: channels that have given up.
    """
    expires_at = news.occurred_at + definition.relevant_for
    audience = audience_of(definition, news)
    if not recipients:
        nobody = Failure(
            cause=f"Nobody: {_kind(audience)} has no address",
            error=f"{audience} has no address: {way_to_reach(audience)}",
        )
        return [Unreached(definition, "", nobody, expires_at)]
    found: list[Addressed | Unreached] = []
    for recipient in recipients:
        ways = [channel for channel in definition.channels if channel in recipient.addresses]
        usable = [channel for channel in ways if channel not in unready and channel not in without]
        if not usable:
            found.append(Unreached(definition, recipient.key, _why(definition, recipient, ways, unready), expires_at))
            continue
        morning = recipient.quiet.after(now) if definition.in_the_morning else now
        # What is old by the morning is told at night.
        due_at = morning if morning < expires_at else now
        found += [
            Addressed(definition, recipient.key, channel, recipient.addresses[channel], due_at, expires_at)
            for channel in (usable if definition.mode is Mode.ALL else usable[:1])
        ]
    return found


def _why(definition: Definition, recipient: Recipient, ways: Sequence[str], unready: Mapping[str, str]) -> Failure:
    missing = [unready[channel] for channel in ways if channel in unready]
    if missing:
        return Failure(
            cause=f"Nobody: {' and '.join(ways)} cannot send",
            error=f"{recipient.key} is reached by {' and '.join(ways)} only: {'; '.join(missing)}",
        )
    wanted = " or ".join(definition.channels)
    return Failure(
        cause=f"Nobody: no address for {wanted}",
        error=f"{recipient.key} has no address for {wanted}: {way_to_reach(recipient.audience)}",
    )


def _kind(audience: str) -> str:
    """An audience as a cause that groups: owners are many."""
    return "the owner" if is_owner(audience) else audience
