"""Notifications at a glance: what waits, what is in trouble, who sends. Nothing here reads what is delivered."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, text

from integrations.db.in_time import in_time
from integrations.db.seats import seated
from integrations.db.session import Sessions
from integrations.domain.notification import CHANNELS, LEDGER
from integrations.domain.notification_page import Cause, ChannelLook, Out, Page

Counted = Sequence[Row[Any]] | None
"""None: not in time."""
_COUNTED: Final = {
    "processing": "on_the_way",
    "held": "held",
    "retrying": "retrying",
    "dead": "dead",
    "dropped": "dropped_last_hour",
    "failed over": "failed_over_last_hour",
}
"""What is counted, and the field of the page that it is."""
_CAUSES: Final = 10
_LAST: Final = len(CHANNELS) - 1
# One step down the partial index for each channel: however many wait, and however many are delivered.
OLDEST: Final = text(f"""
SELECT part, due_at FROM generate_series(0, {_LAST}) AS part CROSS JOIN LATERAL (
  SELECT due_at FROM service_notification_dispatches AS item
  WHERE item.status = 'pending' AND item.part = part.part::smallint AND item.due_at <= now()
  ORDER BY item.due_at, item.position LIMIT 1
) AS first
""")  # noqa: S608 - ours
REQUESTED: Final = text("""
SELECT requested_at FROM service_notification_requests WHERE status = 'pending' ORDER BY id LIMIT 1
""")
REQUESTS: Final = text("SELECT count(*) FROM service_notification_requests WHERE status = 'pending'")
PENDING: Final = text("""
SELECT part, count(*) FILTER (WHERE due_at <= now()) AS pending, count(*) FILTER (WHERE due_at > now()) AS later
FROM service_notification_dispatches WHERE status = 'pending' GROUP BY part
""")
# Each part has a partial index of its own, whose condition it repeats.
AMOUNTS: Final = text("""
SELECT part, 'held' AS what, count(*) AS amount, NULL::timestamptz AS since, 0 AS last_hour, 0 AS hour_before
  FROM service_notification_dispatches WHERE status = 'held' GROUP BY part
UNION ALL SELECT part, status, count(*), NULL, 0, 0
  FROM service_notification_dispatches WHERE status IN ('processing', 'retrying') GROUP BY part, status
UNION ALL SELECT part, status, count(*), min(at), count(*) FILTER (WHERE age < interval '1 hour'),
    count(*) FILTER (WHERE age >= interval '1 hour' AND age < interval '2 hours')
  FROM service_notification_dispatches CROSS JOIN LATERAL (SELECT coalesce(settled_at, created_at) AS at) AS ended
  CROSS JOIN LATERAL (SELECT now() - at AS age) AS ago
  WHERE status IN ('dead', 'nobody') GROUP BY part, status
UNION ALL SELECT part, CASE WHEN starts_with(cause, 'Failover:') THEN 'failed over' ELSE 'dropped' END, count(*),
    NULL, 0, 0
  FROM service_notification_dispatches
  WHERE status = 'dropped' AND settled_at > now() - interval '1 hour' AND cause <> 'Reached' GROUP BY 1, 2
""")
CAUSES: Final = text(f"""
SELECT status, channel, coalesce(cause, '') AS cause, coalesce(fingerprint, '') AS fingerprint, count(*) AS count,
  min(since) AS since
FROM (
  SELECT status, channel, cause, fingerprint, failed_at AS since
    FROM service_notification_dispatches WHERE status = 'retrying'
  UNION ALL SELECT status, channel, cause, fingerprint, coalesce(settled_at, created_at)
    FROM service_notification_dispatches WHERE status IN ('dead', 'nobody')
) AS failed GROUP BY 1, 2, 3, 4 ORDER BY count(*) DESC, 1, 2, 3 LIMIT {_CAUSES}
""")  # noqa: S608 - ours
_OUT: Final = text("""
SELECT hold.destination AS channel, hold.order_key AS origin, hold.since, hold.item_id,
  coalesce(item.cause, '') AS cause, coalesce(item.definition, '?') AS definition
FROM service_ledger_holds AS hold LEFT JOIN service_notification_dispatches AS item ON item.id = hold.item_id
WHERE hold.ledger = 'notifications' AND hold.released_at IS NULL ORDER BY hold.since
""")
WAITING: Final = text("""
SELECT item.channel, address.origin, count(*) AS amount
FROM service_notification_dispatches AS item JOIN service_contact_addresses AS address ON address.id = item.address_id
WHERE item.status = 'held' GROUP BY 1, 2
""")
_SENT: Final = text("""
SELECT part, sum(items) AS items, max(at) AS at FROM service_ledger_watermarks
WHERE ledger = 'notifications' GROUP BY part
""")
_ADDRESSES: Final = text("SELECT channel, count(*) AS amount FROM service_contact_addresses GROUP BY channel")


async def page(sessions: Sessions, unready: Mapping[str, str]) -> Page:
    """`unready`: channels that cannot send, with what they lack."""
    async with sessions.begin() as session:
        at = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
        dispatchers, _ = await seated(session, LEDGER, len(CHANNELS), CHANNELS.__getitem__)
        oldest = {row.part: row.due_at for row in await session.execute(OLDEST)}
        sent = {row.part: row for row in await session.execute(_SENT)}
        addresses = {row.channel: row.amount for row in await session.execute(_ADDRESSES)}
        requested = (await session.execute(REQUESTED)).scalar()
        holds = (await session.execute(_OUT)).all()
    amounts, pending = await in_time(sessions, AMOUNTS), await in_time(sessions, PENDING)
    requests, causes = await in_time(sessions, REQUESTS), await in_time(sessions, CAUSES)
    nobody = [row for row in amounts or [] if row.what == "nobody"]
    return Page(
        at=at,
        channels=[
            ChannelLook(
                channel=channel,
                sent=sent[part].items if part in sent else 0,
                sent_at=sent[part].at if part in sent else None,
                oldest=oldest.get(part),
                addresses=addresses.get(channel, 0),
                unready=unready.get(channel, ""),
                dispatcher=dispatchers[part],
                **_pending(pending, part),
                **_amounts(amounts, part),
            )
            for part, channel in enumerate(CHANNELS)
        ],
        causes=None if causes is None else [Cause(**row._asdict()) for row in causes],
        out=_out(holds, await in_time(sessions, WAITING) if holds else []),
        nobody=None if amounts is None else sum(row.amount for row in nobody),
        nobody_since=min((row.since for row in nobody), default=None),
        requests=None if requests is None else requests[0][0],
        requested=requested,
    )


def _pending(rows: Counted, part: int) -> dict[str, Any]:
    if rows is None:
        return {"pending": None, "later": None}
    return next(({"pending": row.pending, "later": row.later} for row in rows if row.part == part), {})


def _amounts(rows: Counted, part: int) -> dict[str, Any]:
    if rows is None:
        return dict.fromkeys((*_COUNTED.values(), "dead_last_hour", "dead_hour_before"))
    mine = {row.what: row for row in rows if row.part == part}
    told = {name: mine[what].amount for what, name in _COUNTED.items() if what in mine}
    dead = mine.get("dead")
    if dead is not None:
        told |= {"dead_since": dead.since, "dead_last_hour": dead.last_hour, "dead_hour_before": dead.hour_before}
    return told


def _out(holds: Sequence[Row[Any]], rows: Counted) -> list[Out]:
    waiting = None if rows is None else {(row.channel, row.origin): row.amount for row in rows}
    return [
        Out(
            channel=hold.channel,
            origin=hold.origin,
            since=hold.since,
            waiting=None if waiting is None else waiting.get((hold.channel, hold.origin), 0),
            cause=hold.cause,
            item_id=hold.item_id,
            workflow_id=f"notification:{hold.definition}:{hold.item_id}",
        )
        for hold in holds
    ]
