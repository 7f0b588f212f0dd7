"""FILTERS: the options that say which items of a ledger are meant, the same for every ledger."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from integrations.domain.connection import owner_of
from integrations.domain.errors import WrongUsageError
from integrations.domain.filters import Filters
from integrations.domain.ledger import ItemStatus
from starters.shell import past

Status = Annotated[list[str], typer.Option("--status", help="dead, retrying, held or delivered. Repeat it for more.")]
Since = Annotated[str, typer.Option("--since", help="Occurred then or later: a time, or how long ago, as 2h.")]
Until = Annotated[str, typer.Option("--until", help="Occurred before: a time, or how long ago, as 30m.")]
EventType = Annotated[str, typer.Option("--event-type", help="The event's name; * stands for anything.")]
ProviderId = Annotated[str, typer.Option("--provider", help="A provider's id.")]
ConnectionId = Annotated[UUID | None, typer.Option("--connection", help="A connection's id.")]
Tenant = Annotated[str, typer.Option("--tenant", help="user:ID or org:ID.")]
Cause = Annotated[str, typer.Option("--cause", help="How the cause begins, or its fingerprint.")]
Projector = Annotated[str, typer.Option("--projector", help="The projector.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Of the oldest, so many.")]


def filters_of(
    status: list[str],
    since: str,
    until: str,
    event_type: str,
    provider: str,
    connection: UUID | None,
    tenant: str,
    cause: str,
    projector: str,
    limit: int | None,
) -> Filters:
    """What the options mean. Raises WrongUsageError for what cannot be meant."""
    if tenant:
        owner_of(tenant)
    filters = Filters(
        statuses=tuple(dict.fromkeys(_status(word) for word in status or ["dead"])),
        since=_time(since),
        until=_time(until),
        event_type=event_type or None,
        provider=provider or None,
        connection=connection,
        tenant=tenant or None,
        cause=cause or None,
        projector=projector or None,
        limit=limit,
    )
    filters.check()
    return filters


def _status(word: str) -> ItemStatus:
    try:
        return ItemStatus(word)
    except ValueError:
        raise WrongUsageError(f"{word[:40]!r} is no status: dead, retrying, held or delivered") from None


def _time(text: str) -> datetime | None:
    return past(text) if text else None
