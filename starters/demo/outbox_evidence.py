"""Evidence of a drained backlog: what the rows say of events and projections."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from integrations.db.session import Sessions
from starters.demo.check import Check, Name, judged
from starters.demo.evidence import rows

PROJECTIONS: Final = {
    "activity entries": "service_activity_entries",
    "notification requests": "service_notification_requests",
}
_RISE: Final = 1.0
"""Seconds that the lag must have grown by, to have been seen to rise."""
NORMAL: Final = 1.0
"""Seconds in which fresh events are projected when nothing is wrong: a third of it is usual."""


@dataclass(frozen=True)
class Standing:
    """How the outbox stands: events by state, and the age of the oldest pending one in seconds."""

    delivered: int
    pending: int
    lag: float


async def standing(sessions: Sessions, keys: Sequence[str]) -> Standing:
    sql = """SELECT count(*) FILTER (WHERE status = 'delivered') AS delivered,
      count(*) FILTER (WHERE status = 'pending') AS pending,
      coalesce(extract(epoch FROM now() - min(occurred_at) FILTER (WHERE status = 'pending')), 0)::float AS lag
      FROM service_lifecycle_outbox WHERE order_key = ANY(:keys)"""
    return Standing(**(await rows(sessions, sql, keys=list(keys)))[0])


async def slowest(sessions: Sessions, ids: Sequence[UUID]) -> float:
    """Seconds from an event to its activity entry, the longest of these. Infinite when one has none."""
    sql = """SELECT count(*) AS n, extract(epoch FROM max(projected_at - occurred_at))::float AS seconds
      FROM service_activity_entries WHERE event_id = ANY(:ids)"""
    found = (await rows(sessions, sql, ids=list(ids)))[0]
    return float(found["seconds"]) if found["n"] == len(ids) else math.inf


async def backlog_drained(
    sessions: Sessions, keys: Sequence[str], code: int, at_death: Standing, highest: float, fresh: Sequence[UUID]
) -> Check:
    """`highest`: the lag in seconds, at its worst. `fresh`: events from after it all."""
    after = await slowest(sessions, fresh)
    counted = [await _counted(sessions, table, keys) for table in PROJECTIONS.values()]
    named = dict(zip(PROJECTIONS, counted, strict=True))
    return judged(
        Name.BACKLOG_DRAINED,
        {
            "the worker died of SIGKILL": code == 137,  # noqa: PLR2004 - 128 + 9, as a shell counts
            "in the middle of the backlog": at_death.delivered > 0 and at_death.pending > 0,
            "the lag rose without it": highest > at_death.lag + _RISE,
            "and is normal again": after < NORMAL,
            "each event is in both projections": not any(row["missing"] for row in counted),
            "none twice": not any(row["twice"] for row in counted),
        },
        f"guard: exit code {code}, with {at_death.delivered:,} of {at_death.delivered + at_death.pending:,} events "
        f"delivered; database: lag {at_death.lag:.1f} s then, {highest:.1f} s at its worst, {after:.1f} s for fresh "
        f"events after it; {counted[0]['events']:,} events, "
        + ", ".join(
            f"{row['projected']:,} {what} ({row['missing']} missing, {row['twice']} twice)"
            for what, row in named.items()
        ),
    )


async def _counted(sessions: Sessions, table: str, keys: Sequence[str]) -> dict[str, Any]:
    sql = f"""SELECT count(*) AS events, count(made.event_id) AS projected, count(*) - count(made.event_id) AS missing,
      count(made.event_id) - count(DISTINCT (made.order_key, made.seq)) FILTER (WHERE made.seq IS NOT NULL) AS twice
      FROM service_lifecycle_outbox AS event LEFT JOIN {table} AS made USING (event_id)
      WHERE event.order_key = ANY(:keys)"""  # noqa: S608 - our own table's name
    return (await rows(sessions, sql, keys=list(keys)))[0]


async def order_kept(sessions: Sessions, keys: Sequence[str]) -> Check:
    """Read in the order of projection, the numbers of each connection only rise."""
    sql = """SELECT count(*) AS made, count(DISTINCT order_key) AS keys,
      count(*) FILTER (WHERE seq <= before) AS overtaken FROM (
        SELECT order_key, seq, lag(seq) OVER (PARTITION BY order_key ORDER BY id) AS before
        FROM {} WHERE order_key = ANY(:keys)) AS made"""
    found = {what: (await rows(sessions, sql.format(table), keys=list(keys)))[0] for what, table in PROJECTIONS.items()}
    return judged(
        Name.ORDER_KEPT,
        {f"in order among the {what}": not row["overtaken"] for what, row in found.items()}
        | {"of every connection": all(row["keys"] == len(keys) for row in found.values())},
        f"database: of {len(keys)} connections, in the order of projection, "
        + " and ".join(f"{row['overtaken']} of {row['made']:,} {what}" for what, row in found.items())
        + " come after a later one",
    )
