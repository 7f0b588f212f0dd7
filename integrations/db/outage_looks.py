"""One look over all providers: whose calls of the last minute trip, and whose last ones all failed."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.calls import FAILING
from integrations.domain.call import KEPT
from integrations.domain.message import Message
from integrations.domain.outage import OURS, Ended, Limits
from integrations.domain.outage_look import Group, Suspect, quiet_suspects, suspects

# What came before an outage was closed has been judged: of its provider, or of those that our own way out held back.
# One of ours that held back nobody has judged nobody.
_CLOSED: Final = f"""
closed AS MATERIALIZED (
  SELECT theirs.provider_id, max(closed_at) AS at
  FROM service_outages AS outage CROSS JOIN LATERAL unnest(
    CASE WHEN outage.provider_id <> '{OURS}' THEN ARRAY[outage.provider_id]
      WHEN ended <> '{Ended.UNFOUNDED}' THEN names END
  ) AS theirs (provider_id)
  WHERE closed_at > now() - cast(:back AS interval)
  GROUP BY theirs.provider_id
)
"""  # noqa: S608 - our own words
_JUDGED: Final = "coalesce(closed.at, '-infinity')"
# Both windows, all providers and their parts by one walk over the last part of the key. A provider as a whole is there
# whether it trips or not: how many were called says whether it is us.
_LOOK: Final = text(f"""
WITH {_CLOSED}
SELECT call.provider_id, endpoint, tenant,
  count(*) AS calls, count(*) FILTER (WHERE {FAILING}) AS failing,
  count(*) FILTER (WHERE recent) AS recent_calls, count(*) FILTER (WHERE recent AND {FAILING}) AS recent_failing
FROM service_provider_calls AS call
  CROSS JOIN LATERAL (SELECT call.at >= now() - cast(:recent AS interval) AS recent) AS window_of
  LEFT JOIN closed ON closed.provider_id = call.provider_id
WHERE call.at >= now() - cast(:back AS interval)
  AND call.at > {_JUDGED}
GROUP BY GROUPING SETS ((call.provider_id), (call.provider_id, endpoint), (call.provider_id, tenant))
HAVING grouping(endpoint, tenant) = 3
  OR count(*) >= :calls AND count(*) FILTER (WHERE {FAILING}) * 100 >= :share * count(*)
  OR count(*) FILTER (WHERE recent) >= :calls
    AND count(*) FILTER (WHERE recent AND {FAILING}) * 100 >= :share * count(*) FILTER (WHERE recent)
""")  # noqa: S608 - our own words
_TAILS: Final = text(f"""
WITH {_CLOSED}
SELECT tail.provider_id, failing.at
FROM service_provider_tails AS tail LEFT JOIN closed USING (provider_id)
  CROSS JOIN LATERAL (
    SELECT array_agg(each.at ORDER BY each.at DESC) AS at FROM unnest(tail.failing_at) AS each (at)
    WHERE each.at > greatest({_JUDGED}, now() - cast(:back AS interval))
  ) AS failing
WHERE cardinality(tail.failing_at) >= :calls AND cardinality(failing.at) >= :calls
""")  # noqa: S608


class Look(Message):
    suspects: tuple[Suspect, ...]
    called: frozenset[str]
    """Providers with a call in the window."""


async def look(session: AsyncSession, limits: Limits) -> Look:
    """Who is suspected of an outage by the calls of now. As many statements, whatever there is in the table."""
    asked: dict[str, Any] = {
        "back": limits.window,
        "recent": limits.recent,
        "calls": limits.calls,
        "share": limits.share,
    }
    rows = (await session.execute(_LOOK, asked)).mappings().all()
    now = await session.scalar(select(func.now()))
    assert now is not None
    minute = suspects((_group(row) for row in rows), now, limits.window, limits)
    recent = suspects((_group(row, "recent_") for row in rows), now, limits.recent, limits)
    # What the short window says is the fresher news.
    by_provider = {each.provider_id: each for each in (*minute, *recent)}
    busy = {row["provider_id"] for row in rows if row["calls"] >= limits.calls}
    quiet = quiet_suspects(await _tails(session, limits.quiet_calls), busy, limits)
    by_provider |= {each.provider_id: each for each in quiet if each.provider_id not in by_provider}
    return Look(suspects=tuple(by_provider.values()), called=frozenset(row["provider_id"] for row in rows))


async def _tails(session: AsyncSession, calls: int) -> dict[str, list[datetime]]:
    found = await session.execute(_TAILS, {"back": KEPT, "calls": calls})
    return {row.provider_id: row.at for row in found}


def _group(row: RowMapping, of: str = "") -> Group:
    return Group(
        provider_id=row["provider_id"],
        endpoint=row["endpoint"],
        tenant=row["tenant"],
        calls=row[f"{of}calls"],
        failing=row[f"{of}failing"],
    )
