"""Looking for what must not be: deliveries in states that no code of ours makes, claims that nobody takes on."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from integrations.db.in_time import in_time
from integrations.db.session import Sessions
from integrations.db.trouble import failure_of
from integrations.db.webhook_probe import probe
from integrations.domain.ids import ids_before

_LONG: Final = 30.0
"""Seconds: whoever audits has something to find out."""
_SPAN: Final = timedelta(days=7)
"""In which a day's storage is measured."""
_ROW: Final = 710
"""Bytes that a delivery takes beside its body and headers, with its indexes and the room for its settle: measured."""
# A delivery that was folded is forgotten before the one that it was folded into, and never after it.
_ILLEGAL: Final = {
    "coalesced into a delivery that is not there": """
SELECT count(*) FROM service_webhook_deliveries AS item WHERE status = 'coalesced' AND NOT EXISTS (
  SELECT FROM service_webhook_deliveries AS other WHERE other.id = item.folded_into)""",
    "coalesced into a delivery of another resource, or an earlier one": """
SELECT count(*) FROM service_webhook_deliveries AS item
JOIN service_webhook_deliveries AS other ON other.id = item.folded_into
WHERE item.status = 'coalesced' AND ((other.provider_id, other.channel, other.resource)
  IS DISTINCT FROM (item.provider_id, item.channel, item.resource) OR other.position <= item.position)""",
    "settled without saying when": """
SELECT count(*) FROM service_webhook_deliveries
WHERE status IN ('delivered', 'coalesced') AND settled_at IS NULL""",
    "delivered without saying by what": """
SELECT count(*) FROM service_webhook_deliveries WHERE status = 'delivered' AND coalesce(handled_as, '') = ''""",
    "with a lease, and not retrying": """
SELECT count(*) FROM service_webhook_deliveries WHERE status <> 'retrying' AND lease_until IS NOT NULL""",
    "pending and settled": """
SELECT count(*) FROM service_webhook_deliveries WHERE status = 'pending' AND settled_at IS NOT NULL""",
    "retrying or dead without an attempt": """
SELECT count(*) FROM service_webhook_deliveries
WHERE status IN ('retrying', 'dead') AND (failed_at IS NULL OR cause IS NULL)""",
    "known by their body's digest, with an id that is none": """
SELECT count(*) FROM service_webhook_deliveries WHERE identity = 'digest' AND NOT starts_with(delivery_id, 'body:')""",
}
_STUCK: Final = {
    "pending deliveries are due for more than 15 minutes": """
SELECT count(*) FROM service_webhook_deliveries
WHERE status = 'pending' AND due_at < now() - interval '15 minutes'""",
    "pending deliveries are held back for more than 15 minutes behind nothing": """
SELECT count(*) FROM service_webhook_deliveries AS item
WHERE status = 'pending' AND due_at = 'infinity' AND received_at < now() - interval '15 minutes'
  AND NOT EXISTS (SELECT FROM service_ledger_holds AS hold WHERE ledger = 'webhooks' AND hold.part = item.part)""",
    "pending deliveries came more than an hour ago and may not be handled, each for a reason that it tells": """
SELECT count(*) FROM service_webhook_deliveries
WHERE status = 'pending' AND waits IS NOT NULL AND received_at < now() - interval '1 hour'""",
    "retrying deliveries have no lease, so that nobody finds out when their workflow is lost": """
SELECT count(*) FROM service_webhook_deliveries WHERE status = 'retrying' AND lease_until IS NULL""",
    "retrying deliveries are past their lease for more than 15 minutes": """
SELECT count(*) FROM service_webhook_deliveries
WHERE status = 'retrying' AND lease_until < now() - interval '15 minutes'""",
    "holds wait for a delivery that nobody retries": """
SELECT count(*) FROM service_ledger_holds AS hold WHERE ledger = 'webhooks' AND released_at IS NULL
  AND since < now() - interval '15 minutes' AND NOT EXISTS (SELECT FROM service_webhook_deliveries AS item
    WHERE item.id = hold.item_id AND item.status = 'retrying')""",
    "holds were released more than 15 minutes ago, and what they held back still waits": """
SELECT count(*) FROM service_ledger_holds
WHERE ledger = 'webhooks' AND released_at < now() - interval '15 minutes'""",
}
_STORAGE: Final = text(f"""
SELECT provider_id AS provider, count(*) AS amount,
  sum(pg_column_size(body) + pg_column_size(headers) + {_ROW}) AS bytes,
  extract(epoch FROM now() - min(received_at)) AS seconds
FROM service_webhook_deliveries WHERE id >= :since GROUP BY provider_id
""")  # noqa: S608 - ours


async def illegal(sessions: Sessions) -> Mapping[str, int] | None:
    """How many deliveries there are in each state that cannot be; only those that there are. None: not in time."""
    found = await _counted(sessions, _ILLEGAL)
    return None if found is None else {what: count for what, count in found.items() if count}


async def stuck(sessions: Sessions) -> Mapping[str, int] | None:
    """How many claims and holds of each kind nobody takes on. None: not counted in time."""
    return await _counted(sessions, _STUCK)


async def storage(sessions: Sessions, now: datetime) -> Mapping[str, tuple[int, int]] | None:
    """Bytes and rows of a day, by provider, over at most the last week. None: not measured in time."""
    rows = await in_time(sessions, _STORAGE, {"since": ids_before(now - _SPAN)}, _LONG)
    if rows is None:
        return None
    # What is younger than a day is taken for a day's.
    days = {row.provider: max(1.0, float(row.seconds) / 86400) for row in rows}
    return {row.provider: (int(row.bytes / days[row.provider]), int(row.amount / days[row.provider])) for row in rows}


async def refused(sessions: Sessions) -> str:
    """What keeps a row from being inserted. Empty: one was, and was rolled back."""
    try:
        await probe(sessions)
    except DBAPIError as error:
        return failure_of(error).error
    return ""


async def _counted(sessions: Sessions, wanted: Mapping[str, str]) -> dict[str, int] | None:
    columns = ", ".join(f"({count}) AS count_{n}" for n, count in enumerate(wanted.values()))
    rows = await in_time(sessions, text(f"SELECT {columns}"), seconds=_LONG)
    return None if rows is None else dict(zip(wanted, rows[0], strict=True))
