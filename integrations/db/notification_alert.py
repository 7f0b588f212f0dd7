"""The alert that messages are given up: an event like any other, in the transaction that counted."""

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outbox import enqueue_apart
from integrations.domain.notification_alert import EVENT, EVERY, DeadLetters, alert

_TOLD: Final = text("""
SELECT now() AS now, (SELECT occurred_at FROM service_lifecycle_outbox
  WHERE order_key = :event ORDER BY seq DESC LIMIT 1) AS told_at
""")
# Those of the alert itself are none of its business: it would be raised by its own failing, hour after hour.
_DEAD: Final = text("""
SELECT item.channel, item.cause, count(*) AS dead, min(item.settled_at) AS since,
  count(*) FILTER (WHERE item.settled_at > coalesce(cast(:told_at AS timestamptz), '-infinity')) AS more
FROM service_notification_dispatches AS item JOIN service_lifecycle_outbox AS event USING (event_id)
WHERE item.status = 'dead' AND event.name <> :event GROUP BY 1, 2
""")


async def raised(session: AsyncSession) -> bool:
    """Tell operators when more was given up since they were told. Whether that was so."""
    known = (await session.execute(_TOLD, {"event": EVENT})).one()
    if known.told_at is not None and known.now - known.told_at < EVERY:
        return False
    rows = await session.execute(_DEAD, {"event": EVENT, "told_at": known.told_at})
    found = [DeadLetters(**row) for row in rows.mappings()]
    due = alert(found, known.told_at, known.now)
    if due is None:
        return False
    return await enqueue_apart(
        session,
        due.event_id,
        EVENT,
        dict(due.payload),
        provider_id="runbook",
        scope_type="org",
        scope_id="operators",
        order_key=EVENT,
    )
