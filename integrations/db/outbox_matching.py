"""Which of the outbox's projections filters mean."""

from typing import Any

from sqlalchemy import Select, or_, select

from integrations.db.ledger_tables import OutboxEvent, ProjectorLedger
from integrations.db.wildcards import like
from integrations.domain.filters import Filters


def matching(filters: Filters) -> Select[*tuple[Any, ...]]:
    """The columns that a plan is made of. `limit` is left to whoever orders them.

    Raises WrongUsageError for filters that cannot be meant.
    """
    filters.check()
    event, item = OutboxEvent, ProjectorLedger
    found: Select[*tuple[Any, ...]] = (
        select(
            event.part,
            item.position,
            item.event_id.label("item_id"),
            item.projector.label("destination"),
            item.cause,
            event.provider_id.label("provider"),
            event.occurred_at,
        )
        .join_from(item, event, event.event_id == item.event_id)
        .where(item.status.in_([status.value for status in filters.statuses]))
    )
    if filters.cause is not None:
        found = found.where(
            or_(item.fingerprint == filters.cause, item.cause.startswith(filters.cause, autoescape=True))
        )
    if filters.projector is not None:
        found = found.where(item.projector == filters.projector)
    return narrowed(found, filters)


def narrowed(found: Select[*tuple[Any, ...]], filters: Filters) -> Select[*tuple[Any, ...]]:
    """By what filters say of the event, whichever ledger's item it is about."""
    event = OutboxEvent
    if filters.since is not None:
        found = found.where(event.occurred_at >= filters.since)
    if filters.until is not None:
        found = found.where(event.occurred_at < filters.until)
    if filters.event_type is not None:
        found = found.where(event.name.like(like(filters.event_type), escape="\\"))
    if filters.provider is not None:
        found = found.where(event.provider_id == filters.provider)
    if filters.connection is not None:
        found = found.where(event.connection_id == filters.connection)
    if filters.tenant is not None:
        scope_type, scope_id = filters.scope
        found = found.where(event.scope_type == scope_type, event.scope_id == scope_id)
    return found
