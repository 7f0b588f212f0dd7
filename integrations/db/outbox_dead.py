"""Items that were given up, or are still retried: grouped by cause, and one by one."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.domain.message import Message

LIMIT: Final = 50


class Group(Message):
    projector: str
    cause: str
    fingerprint: str
    count: int
    oldest: datetime | None
    newest: datetime | None
    providers: list[str]
    example: UUID
    """One of its events: the first in the outbox."""


class Item(Message):
    event_id: UUID
    projector: str
    name: str
    provider: str
    tenant: str
    connection_id: UUID | None
    occurred_at: datetime
    failed_at: datetime | None
    attempts: int | None
    cause: str
    fingerprint: str
    error: str
    history: list[Any]


_STATES: Final = ("dead", "retrying")
# Written out, so that the state's partial index is used.
_GROUPS: Final = {
    state: text(f"""
SELECT projector, coalesce(cause, '') AS cause, coalesce(fingerprint, '') AS fingerprint, count(*) AS count,
  min(failed_at) AS oldest, max(failed_at) AS newest, array_agg(DISTINCT provider_id) AS providers,
  (array_agg(event_id ORDER BY position))[1] AS example
FROM service_projector_ledger AS item JOIN service_lifecycle_outbox AS event USING (event_id)
WHERE item.status = '{state}'
GROUP BY projector, cause, fingerprint ORDER BY count(*) DESC, projector, cause LIMIT {LIMIT}
""")  # noqa: S608 - ours
    for state in _STATES
}
_MATCHING: Final = "(fingerprint = :cause OR starts_with(cause, :cause))"
_ITEMS: Final = {
    state: text(f"""
SELECT event_id, projector, name, provider_id AS provider, scope_type || ':' || scope_id AS tenant, connection_id,
  occurred_at, failed_at, attempts, coalesce(cause, '') AS cause, coalesce(fingerprint, '') AS fingerprint,
  coalesce(error, '') AS error, coalesce(history, '[]') AS history, count(*) OVER () AS total
FROM service_projector_ledger AS item JOIN service_lifecycle_outbox AS event USING (event_id)
WHERE item.status = '{state}' AND {_MATCHING} ORDER BY position, projector LIMIT {LIMIT}
""")  # noqa: S608 - ours
    for state in _STATES
}


async def groups(session: AsyncSession, state: str = "dead") -> list[Group]:
    """The fifty largest. `state`: `dead` or `retrying`."""
    return [Group(**row) for row in (await session.execute(_GROUPS[state])).mappings()]


async def items(session: AsyncSession, cause: str, state: str = "dead") -> tuple[list[Item], int]:
    """The first fifty of a fingerprint, or of causes that begin so; and how many there are."""
    rows = (await session.execute(_ITEMS[state], {"cause": cause})).mappings().all()
    return [Item(**row) for row in rows], rows[0]["total"] if rows else 0
