"""Webhook deliveries that were given up, or are still retried: grouped by cause, and one by one."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.domain.errors import StopError
from integrations.domain.message import Message

LIMIT: Final = 50


class Group(Message):
    cause: str
    fingerprint: str
    count: int
    oldest: datetime | None
    newest: datetime | None
    channels: list[str]
    events: list[str]
    example: UUID
    """The first of its deliveries."""


class Item(Message):
    id: UUID
    provider: str
    channel: str
    delivery_id: str
    identity: str
    event: str
    resource: str
    account: str
    reaction: str
    notices: list[Any]
    """All that it tells, as [reaction, event, account], where that is more than one thing."""
    status: str
    received_at: datetime
    sent_at: datetime | None
    occurred_at: datetime | None
    due_at: str
    """As the database says it: `infinity`, while its handler is broken as a whole."""
    waits: str
    """Why it may not be done now; empty unless it is pending."""
    settled_at: datetime | None
    handled_as: str
    folded_into: UUID | None
    woken: int
    attempts: int
    failed_at: datetime | None
    cause: str
    fingerprint: str
    error: str
    history: list[Any]
    repeats: int
    """How often it came again."""
    headers: dict[str, Any]
    bytes: int
    """Of its body."""


# Written out, so that the state's partial index is used.
_STATES: Final = {False: "status = 'dead'", True: "status = 'retrying'"}
"""By whether they are still retried."""
_GROUPS: Final = {
    retrying: text(f"""
SELECT coalesce(cause, '') AS cause, coalesce(fingerprint, '') AS fingerprint, count(*) AS count,
  min(failed_at) AS oldest, max(failed_at) AS newest, array_agg(DISTINCT provider_id || '/' || channel) AS channels,
  array_remove(array_agg(DISTINCT event), '') AS events, (array_agg(id ORDER BY position))[1] AS example
FROM service_webhook_deliveries WHERE {state}
GROUP BY cause, fingerprint ORDER BY count(*) DESC, cause LIMIT {LIMIT}
""")  # noqa: S608 - ours
    for retrying, state in _STATES.items()
}
_COLUMNS: Final = """
SELECT id, provider_id AS provider, channel, delivery_id, identity, event, resource, account, reaction,
  coalesce(notices, '[]') AS notices, status, received_at, sent_at, occurred_at,
  cast(due_at AS text) AS due_at, coalesce(waits, '') AS waits, settled_at,
  coalesce(handled_as, '') AS handled_as, folded_into, woken,
  attempts, failed_at, coalesce(cause, '') AS cause, coalesce(fingerprint, '') AS fingerprint,
  coalesce(error, '') AS error, coalesce(history, '[]') AS history, headers, octet_length(body) AS bytes, (
    SELECT count(*) FROM service_webhook_repeats AS again WHERE again.at >= item.received_at
      AND again.provider_id = item.provider_id AND again.channel = item.channel
      AND again.delivery_id = item.delivery_id) AS repeats
"""
_ITEMS: Final = {
    retrying: text(f"""{_COLUMNS}, count(*) OVER () AS total FROM service_webhook_deliveries AS item
WHERE {state} AND (fingerprint = :cause OR starts_with(cause, :cause)) ORDER BY position LIMIT {LIMIT}
""")
    for retrying, state in _STATES.items()
}
_ONE: Final = text(f"{_COLUMNS} FROM service_webhook_deliveries AS item WHERE id = :id")
_BODY: Final = text("SELECT body FROM service_webhook_deliveries WHERE id = :id")


async def groups(session: AsyncSession, *, retrying: bool = False) -> list[Group]:
    """The fifty largest."""
    return [Group(**row) for row in (await session.execute(_GROUPS[retrying])).mappings()]


async def items(session: AsyncSession, cause: str, *, retrying: bool = False) -> tuple[list[Item], int]:
    """The first fifty of a fingerprint, or of causes that begin so; and how many there are."""
    rows = (await session.execute(_ITEMS[retrying], {"cause": cause})).mappings().all()
    return [Item(**row) for row in rows], rows[0]["total"] if rows else 0


async def one(session: AsyncSession, delivery_id: UUID) -> Item:
    """Whatever became of it. Raises StopError when there is no such delivery."""
    row = (await session.execute(_ONE, {"id": delivery_id})).mappings().one_or_none()
    if row is None:
        raise StopError(
            f"there is no delivery {delivery_id}: it may have been forgotten; `runbook webhooks dead` shows what waits"
        )
    return Item(**row)


async def body(session: AsyncSession, delivery_id: UUID) -> bytes:
    """Byte for byte as it came."""
    return bytes((await session.execute(_BODY, {"id": delivery_id})).scalar_one())
