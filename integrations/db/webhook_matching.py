"""Which webhook deliveries filters mean."""

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from integrations.db.tables import Connection
from integrations.db.webhook_tables import WebhookChannel, WebhookDelivery
from integrations.db.wildcards import like
from integrations.domain.filters import Filters


def matching(filters: Filters) -> Select[*tuple[Any, ...]]:
    """The columns that a plan is made of. `limit` is left to whoever orders them.

    A delivery occurred when it was received. Its connection is its channel's, or, on a channel of many, each one of
    the account that it names. Raises WrongUsageError for filters that cannot be meant.
    """
    filters.check()
    item = WebhookDelivery
    found: Select[*tuple[Any, ...]] = select(
        item.part,
        item.position,
        item.id.label("item_id"),
        item.provider_id.concat("/").concat(item.channel).label("destination"),
        item.cause,
        item.provider_id.label("provider"),
        item.received_at.label("occurred_at"),
    ).where(item.status.in_([status.value for status in filters.statuses]))
    if filters.cause is not None:
        found = found.where(
            or_(item.fingerprint == filters.cause, item.cause.startswith(filters.cause, autoescape=True))
        )
    if filters.since is not None:
        found = found.where(item.received_at >= filters.since)
    if filters.until is not None:
        found = found.where(item.received_at < filters.until)
    if filters.event_type is not None:
        found = found.where(item.event.like(like(filters.event_type), escape="\\"))
    if filters.provider is not None:
        found = found.where(item.provider_id == filters.provider)
    if filters.connection is not None:
        found = found.where(_is_about(Connection.id == filters.connection))
    if filters.tenant is not None:
        scope_type, scope_id = filters.scope
        found = found.where(_is_about(and_(Connection.scope_type == scope_type, Connection.scope_id == scope_id)))
    return found


def _is_about(those: ColumnElement[bool]) -> ColumnElement[bool]:
    item = WebhookDelivery
    of_channel = (
        select(WebhookChannel.connection_id)
        .where(WebhookChannel.provider_id == item.provider_id, WebhookChannel.channel == item.channel)
        .correlate(item)
        .scalar_subquery()
    )
    of_account = and_(of_channel.is_(None), item.account != "", Connection.account_id == item.account)
    return (
        select(Connection.id)
        .where(Connection.provider_id == item.provider_id, those, or_(Connection.id == of_channel, of_account))
        .correlate(item)
        .exists()
    )
