"""Messages that were given up, that reached nobody, or that are still retried: by cause, and one by one."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.domain.errors import StopError
from integrations.domain.message import Message

LIMIT: Final = 50


class Group(Message):
    status: str
    """`dead` or `nobody`, or `retrying`."""
    cause: str
    fingerprint: str
    count: int
    oldest: datetime | None
    newest: datetime | None
    channels: list[str]
    definitions: list[str]
    example: UUID
    """One of its dispatches: the first in the ledger."""
    recipient: str
    error: str
    """Of the example, as the recipient before it."""


class Item(Message):
    id: UUID
    event_id: UUID
    event: str
    occurred_at: datetime
    provider: str
    tenant: str
    definition: str
    recipient: str
    channel: str
    status: str
    attempts: int
    due_at: datetime
    expires_at: datetime
    failed_at: datetime | None
    cause: str
    fingerprint: str
    error: str
    history: list[Any]
    rendered: dict[str, Any] | None
    """What its recipient would have read, without links, and at which address, masked."""

    @property
    def workflow_id(self) -> str:
        return f"notification:{self.definition}:{self.id}"


# Written out, so that the partial index of each is used.
_STATES: Final = {False: "status IN ('dead', 'nobody')", True: "status = 'retrying'"}
"""By whether they are still retried."""
_GROUPS: Final = {
    retrying: text(f"""
SELECT status, coalesce(cause, '') AS cause, coalesce(fingerprint, '') AS fingerprint, count(*) AS count,
  min(at) AS oldest, max(at) AS newest, array_remove(array_agg(DISTINCT channel), '') AS channels,
  array_agg(DISTINCT definition) AS definitions, (array_agg(id ORDER BY position))[1] AS example,
  (array_agg(recipient ORDER BY position))[1] AS recipient,
  coalesce((array_agg(error ORDER BY position))[1], '') AS error
FROM service_notification_dispatches
CROSS JOIN LATERAL (SELECT coalesce(failed_at, settled_at, created_at) AS at) AS failed WHERE {state}
GROUP BY status, cause, fingerprint ORDER BY count(*) DESC, status, cause LIMIT {LIMIT}
""")  # noqa: S608 - ours
    for retrying, state in _STATES.items()
}
_COLUMNS: Final = """
SELECT item.id, event_id, event.name AS event, occurred_at, provider_id AS provider,
  scope_type || ':' || scope_id AS tenant, definition, recipient, channel, item.status, attempts, due_at, expires_at,
  failed_at, coalesce(cause, '') AS cause, coalesce(fingerprint, '') AS fingerprint, coalesce(error, '') AS error,
  coalesce(history, '[]') AS history, rendered
"""
_FROM: Final = "FROM service_notification_dispatches AS item JOIN service_lifecycle_outbox AS event USING (event_id)"
_ITEMS: Final = {
    retrying: text(f"""{_COLUMNS}, count(*) OVER () AS total {_FROM}
WHERE item.{state} AND (fingerprint = :cause OR starts_with(cause, :cause)) ORDER BY position LIMIT {LIMIT}
""")
    for retrying, state in _STATES.items()
}
_ONE: Final = text(f"{_COLUMNS} {_FROM} WHERE item.id = :id")
_OF_EVENT: Final = text(f"{_COLUMNS} {_FROM} WHERE item.event_id = :event_id ORDER BY position")


async def groups(session: AsyncSession, *, retrying: bool = False) -> list[Group]:
    """The fifty largest."""
    return [Group(**row) for row in (await session.execute(_GROUPS[retrying])).mappings()]


async def items(session: AsyncSession, cause: str, *, retrying: bool = False) -> tuple[list[Item], int]:
    """The first fifty of a fingerprint, or of causes that begin so; and how many there are."""
    rows = (await session.execute(_ITEMS[retrying], {"cause": cause})).mappings().all()
    return [Item(**row) for row in rows], rows[0]["total"] if rows else 0


async def one(session: AsyncSession, dispatch_id: UUID) -> Item:
    """Whatever became of it. Raises StopError when there is no such dispatch."""
    row = (await session.execute(_ONE, {"id": dispatch_id})).mappings().one_or_none()
    if row is None:
        raise StopError(
            f"there is no dispatch {dispatch_id}: `runbook notifications dead` shows those that were given up"
        )
    return Item(**row)


async def of_event(session: AsyncSession, event_id: UUID) -> list[Item]:
    """Everything that somebody was to get of an event."""
    return [Item(**row) for row in (await session.execute(_OF_EVENT, {"event_id": event_id})).mappings()]
