"""Deliveries in trouble that nobody is at, and what is held back behind nothing: found by reconcile."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outbox_trouble import APPEND
from integrations.db.webhook_handlers import Handling
from integrations.db.webhook_notices import COLUMNS
from integrations.db.webhook_trouble import left_of
from integrations.domain.webhook import Left

_AT_ONCE: Final = 500
_LOST: Final = text(f"""
SELECT {COLUMNS}, cause, attempts FROM service_webhook_deliveries
WHERE status = 'retrying' AND lease_until < now() ORDER BY lease_until LIMIT {_AT_ONCE}
""")  # noqa: S608 - ours
_STARTED: Final = text("""
UPDATE service_webhook_deliveries SET lease_until = now() + interval '10 minutes'
WHERE id = :id AND status = 'retrying' AND lease_until < now()
""")
_ORPHANS: Final = text("""
UPDATE service_ledger_holds AS hold SET released_at = now()
WHERE ledger = 'webhooks' AND released_at IS NULL AND NOT EXISTS (SELECT FROM service_webhook_deliveries AS item
  WHERE item.id = hold.item_id AND item.status = 'retrying')
RETURNING part
""")
# By each partition's index: what waits is the partial index of what is pending, from its end.
_HELD: Final = text("""
UPDATE service_webhook_deliveries SET due_at = now() WHERE id = ANY(ARRAY(
  SELECT item.id FROM generate_series(0, 15) AS part CROSS JOIN LATERAL (
    SELECT id FROM service_webhook_deliveries
    WHERE status = 'pending' AND service_webhook_deliveries.part = cast(part.part AS smallint) AND due_at = 'infinity'
      AND NOT EXISTS (SELECT FROM service_ledger_holds AS hold WHERE hold.ledger = 'webhooks' AND hold.part = part.part)
    LIMIT 5000
  ) AS item))
""")

# While an attempt held its row, whoever sent it again was passed over. What was tried after that is not meant: only
# repeats of the last minute before its last attempt failed, and later. One that did have it tried has it tried twice.
_SWALLOWED: Final = text(f"""
UPDATE service_webhook_deliveries AS item SET status = 'pending', due_at = now(), settled_at = NULL,
  woken = least(woken + 1, 32767), history = {APPEND}jsonb_build_object('at', now(), 'attempt', attempts,
    'error', 'sent again by the provider during its last attempt: tried once more')
FROM (
  SELECT provider_id, channel, delivery_id, max(at) AS at FROM service_webhook_repeats
  WHERE at > now() - interval '10 minutes' GROUP BY 1, 2, 3
) AS again
WHERE item.provider_id = again.provider_id AND item.channel = again.channel AND item.delivery_id = again.delivery_id
  AND item.status = 'dead' AND again.at > item.failed_at - interval '1 minute'
""")  # noqa: S608 - ours


@dataclass(frozen=True)
class Lost:
    left: Left
    attempts: int


async def deliveries(session: AsyncSession, handling: Handling) -> list[Lost]:
    """`retrying` past their lease, the longest first. A page of them: the next sweep finds the others."""
    return [
        Lost(await left_of(session, row, handling.reaction(row), row.cause), row.attempts)
        for row in (await session.execute(_LOST)).all()
    ]


async def started(session: AsyncSession, delivery_id: UUID) -> None:
    """Its workflow runs: look again when that has not been heard of for long."""
    await session.execute(_STARTED, {"id": delivery_id})


async def wake_swallowed(session: AsyncSession) -> None:
    """Have tried once more what was sent again while somebody had it in hand, and was given up then."""
    await session.execute(_SWALLOWED)


async def release_orphans(session: AsyncSession) -> int:
    """Release holds whose delivery is settled, however that came: by somebody's hand it does not tell the hold.

    What is held back where there is no hold, as after one that was removed by hand, is due again.
    """
    released = len((await session.execute(_ORPHANS)).all())
    await session.execute(_HELD)
    return released
