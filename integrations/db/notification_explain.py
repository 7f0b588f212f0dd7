"""An event, and how far it is on its way to people."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.notification_expand import NEWS, news_of
from integrations.domain.errors import StopError
from integrations.domain.notification import News

_EVENT: Final = text(f"""
SELECT {NEWS}, coalesce(item.status, event.status) AS projection, request.status AS request,
  (SELECT zone FROM service_contacts AS contact
    WHERE contact.scope_type = event.scope_type AND contact.scope_id = event.scope_id) AS zone
FROM service_lifecycle_outbox AS event
LEFT JOIN service_projector_ledger AS item ON item.event_id = event.event_id AND item.projector = 'notification'
LEFT JOIN service_notification_requests AS request ON request.event_id = event.event_id
WHERE event.event_id = :event_id
""")  # noqa: S608 - ours


@dataclass(frozen=True, slots=True)
class Found:
    news: News
    projection: str
    """How the outbox's projector of notifications stands with it."""
    request: str | None
    """None: that has not made one yet."""
    zone: str | None
    """Where the owner's clock is, when that is known."""


async def find(session: AsyncSession, event_id: UUID) -> Found:
    """Raises StopError when there is no such event."""
    row = (await session.execute(_EVENT, {"event_id": event_id})).one_or_none()
    if row is None:
        raise StopError(
            f"there is no event {event_id}: `runbook notifications dead` and `runbook outbox dead` show events' ids, "
            "and so do the workflows' in the Web UI"
        )
    return Found(news_of(row), row.projection, row.request, row.zone)
