"""The alert that messages or webhooks are given up: an event like any other, in the transaction that counted."""

from typing import Final

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outbox import enqueue_apart
from integrations.domain.notification_alert import EVENT, EVERY, WEBHOOKS, DeadLetters, alert

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


_DEAD_WEBHOOKS: Final = text("""
SELECT provider_id || '/' || channel AS channel, cause, count(*) AS dead, min(failed_at) AS since,
  count(*) FILTER (WHERE failed_at > coalesce(cast(:told_at AS timestamptz), '-infinity')) AS more
FROM service_webhook_deliveries WHERE status = 'dead' GROUP BY 1, 2
""")


async def raised(session: AsyncSession) -> bool:
    """Tell operators when more messages were given up since they were told. Whether that was so."""
    return await _raised(session, EVENT, _DEAD)


async def raised_of_webhooks(session: AsyncSession) -> bool:
    """The same of webhook deliveries."""
    return await _raised(session, WEBHOOKS, _DEAD_WEBHOOKS)


async def _raised(session: AsyncSession, event: str, dead: TextClause) -> bool:
    known = (await session.execute(_TOLD, {"event": event})).one()
    if known.told_at is not None and known.now - known.told_at < EVERY:
        return False
    values = {"event": event, "told_at": known.told_at}
    rows = await session.execute(dead, {name: values[name] for name in dead.compile().params})
    found = [DeadLetters(**row) for row in rows.mappings()]
    due = alert(found, known.told_at, known.now, event)
    if due is None:
        return False
    return await enqueue_apart(
        session,
        due.event_id,
        event,
        dict(due.payload),
        provider_id="runbook",
        scope_type="org",
        scope_id="operators",
        order_key=event,
    )
