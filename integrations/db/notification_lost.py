"""Messages in trouble that nobody is at: their workflow never began, or was ended by hand."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.domain.notification_delivery import Left

_AT_ONCE: Final = 500
_LOST: Final = text(f"""
SELECT item.id AS dispatch_id, item.definition, item.channel, item.recipient, event.event_id, event.name AS event,
  event.provider_id, event.scope_type || ':' || event.scope_id AS tenant, event.connection_id, item.cause,
  item.expires_at, item.attempts, EXISTS (SELECT FROM service_ledger_holds AS hold
    WHERE hold.ledger = 'notifications' AND hold.item_id = item.id AND hold.released_at IS NULL) AS whole
FROM service_notification_dispatches AS item JOIN service_lifecycle_outbox AS event USING (event_id)
WHERE item.status = 'retrying' AND item.lease_until < now() ORDER BY item.lease_until LIMIT {_AT_ONCE}
""")  # noqa: S608 - ours
_STARTED: Final = text("""
UPDATE service_notification_dispatches SET lease_until = now() + interval '10 minutes'
WHERE id = :id AND status = 'retrying' AND lease_until < now()
""")
_ORPHANS: Final = text("""
UPDATE service_ledger_holds AS hold SET released_at = now()
WHERE ledger = 'notifications' AND released_at IS NULL AND NOT EXISTS (
  SELECT FROM service_notification_dispatches AS item WHERE item.id = hold.item_id AND item.status = 'retrying')
RETURNING part
""")

_HELD: Final = text("""
UPDATE service_notification_dispatches AS item SET status = 'pending'
WHERE item.status = 'held' AND NOT EXISTS (SELECT FROM service_ledger_holds AS hold
  WHERE hold.ledger = 'notifications' AND hold.part = item.part)
RETURNING id
""")


@dataclass(frozen=True)
class Lost:
    left: Left
    attempts: int


async def deliveries(session: AsyncSession) -> list[Lost]:
    """`retrying` past their lease, the longest first. A page of them: the next sweep finds the others."""
    return [Lost(Left.model_validate(dict(row)), row["attempts"]) for row in (await session.execute(_LOST)).mappings()]


async def started(session: AsyncSession, left: Left) -> None:
    """Its workflow runs: look again when that has not been heard of for long."""
    await session.execute(_STARTED, {"id": left.dispatch_id})


async def release_orphans(session: AsyncSession) -> int:
    """Release holds whose item is settled, however that came: by somebody's hand it does not tell the hold.

    What is held where there is no hold, as after one that was removed by hand, goes into the flow again.
    """
    released = len((await session.execute(_ORPHANS)).all())
    await session.execute(_HELD)
    return released
