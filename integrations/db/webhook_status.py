"""Webhooks at a glance: what came, what waits, what is in trouble, who handles it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Row, text

from integrations.db import automation
from integrations.db.in_time import in_time
from integrations.db.scale import wish
from integrations.db.seats import seated
from integrations.db.session import Sessions
from integrations.domain.automation import FailureMode
from integrations.domain.ids import ids_before
from integrations.domain.ledger import PARTITIONS
from integrations.domain.webhook import LEDGER
from integrations.domain.webhook_page import Broken, Counted, HeldBack, Hour, Page, Repeated, Waiting

_DAY: Final = timedelta(days=1)
_MOST_REPEATED: Final = 10
_NOW: Final = text("SELECT clock_timestamp() AS at")
# One step down the partial index for each partition.
_OLDEST: Final = text(f"""
SELECT min(due_at) AS oldest FROM generate_series(0, {PARTITIONS - 1}) AS part CROSS JOIN LATERAL (
  SELECT due_at FROM service_webhook_deliveries AS item
  WHERE item.status = 'pending' AND item.part = cast(part.part AS smallint) AND item.due_at <= now()
  ORDER BY item.due_at LIMIT 1
) AS first
""")  # noqa: S608 - ours
# Each has a partial index of its own, whose condition it repeats.
_AMOUNTS: Final = text("""
SELECT
  (SELECT count(*) FROM service_webhook_deliveries WHERE status = 'pending' AND due_at <= now()) AS pending,
  (SELECT count(*) FROM service_webhook_deliveries WHERE status = 'pending' AND due_at > now()) AS later,
  (SELECT count(*) FROM service_webhook_deliveries WHERE status = 'retrying') AS retrying,
  (SELECT count(*) FROM service_webhook_deliveries WHERE status = 'retrying' AND lease_until < now()) AS unheard,
  (SELECT count(*) FROM service_webhook_deliveries WHERE status = 'dead') AS dead,
  (SELECT min(failed_at) FROM service_webhook_deliveries WHERE status = 'dead') AS dead_since
""")
_BROKEN: Final = text("""
SELECT DISTINCT ON (destination) hold.destination AS reaction, hold.since,
  coalesce((SELECT cause FROM service_webhook_deliveries AS item WHERE item.id = hold.item_id), '') AS cause
FROM service_ledger_holds AS hold WHERE ledger = 'webhooks' AND released_at IS NULL ORDER BY destination, since
""")
_HELD_BACK: Final = text("""
SELECT provider_id AS provider, reaction, count(*) AS count, min(received_at) AS since,
  (array_agg(waits ORDER BY due_at DESC))[1] AS why
FROM service_webhook_deliveries WHERE status = 'pending' AND waits IS NOT NULL GROUP BY 1, 2 ORDER BY 4
""")
# The day's deliveries are a range of their ids.
_HOURS: Final = text("""
SELECT date_trunc('hour', received_at, 'UTC') AS hour, provider_id AS provider, channel, 'accepted' AS what,
    '' AS reason, count(*) AS amount, count(*) FILTER (WHERE status = 'coalesced') AS coalesced
  FROM service_webhook_deliveries WHERE id >= :since GROUP BY 1, 2, 3
UNION ALL SELECT date_trunc('hour', at, 'UTC'), provider_id, channel, 'duplicate', '', count(*), 0
  FROM service_webhook_repeats WHERE at >= now() - interval '1 day' GROUP BY 1, 2, 3
UNION ALL SELECT hour, provider_id, channel, 'rejected', reason, count, 0
  FROM service_webhook_refusals WHERE hour > now() - interval '1 day'
ORDER BY 1 DESC, 2, 3
""")
_REPEATED: Final = text(f"""
SELECT provider_id AS provider, channel, delivery_id, count(*) AS times, max(at) AS last
FROM service_webhook_repeats WHERE at >= now() - interval '1 day'
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 5 DESC LIMIT {_MOST_REPEATED}
""")  # noqa: S608 - ours


async def page(sessions: Sessions) -> Page:
    async with sessions.begin() as session:
        at = (await session.execute(_NOW)).scalar_one()
        wanted = await wish(session, LEDGER)
        found, _ = await seated(session, LEDGER, wanted.dispatchers)
        oldest = (await session.execute(_OLDEST)).scalar_one()
        broken = [Broken(**each) for each in (await session.execute(_BROKEN)).mappings()]
        held = await automation.why_not(session, FailureMode.WEBHOOK)
    amounts = await in_time(sessions, _AMOUNTS)
    held_back = await in_time(sessions, _HELD_BACK)
    hours = await in_time(sessions, _HOURS, {"since": ids_before(at - _DAY)})
    repeated = await in_time(sessions, _REPEATED)
    return Page(
        at=at,
        held=held or "",
        wish=wanted.dispatchers,
        wished_by=wanted.by,
        dispatchers=found,
        waiting=_waiting(amounts).model_copy(update={"oldest": oldest}),
        broken=broken,
        held_back=None if held_back is None else [HeldBack(**each._asdict()) for each in held_back],
        hours=None if hours is None else _hours(hours),
        repeated=None if repeated is None else [Repeated(**each._asdict()) for each in repeated],
    )


def _waiting(rows: Sequence[Row[Any]] | None) -> Waiting:
    if rows is None:
        return Waiting(**dict.fromkeys(("pending", "later", "retrying", "unheard", "dead")))
    return Waiting(**rows[0]._asdict())


def _hours(rows: Sequence[Row[Any]]) -> list[Hour]:
    sums: dict[tuple[Any, str, str], Counted] = {}
    for row in rows:
        key = (row.hour, row.provider, row.channel)
        sums[key] = sums.get(key, Counted()).plus(_counted(row))
    return [
        Hour(hour=hour, provider=provider, channel=channel, counted=counted)
        for (hour, provider, channel), counted in sums.items()
    ]


def _counted(row: Row[Any]) -> Counted:
    if row.what == "accepted":
        return Counted(accepted=row.amount, coalesced=row.coalesced)
    return Counted(duplicates=row.amount) if row.what == "duplicate" else Counted(rejected={row.reason: row.amount})
