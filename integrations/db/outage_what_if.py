"""Recorded calls, looked at again minute by minute: what would have been an outage, had the limits been these."""

from collections.abc import Mapping
from datetime import datetime
from itertools import groupby
from math import ceil
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.calls import FAILING
from integrations.db.outage_counts import matrix
from integrations.domain.outage import OURS, Limits, Scope
from integrations.domain.outage_detection import scope_of
from integrations.domain.outage_look import Group
from integrations.domain.outage_what_if import Episode, Minute, WouldBe, episodes, would_be

_MINUTE: Final = "date_bin('1 minute', at, 'epoch')"
# The second walk is over the minutes of a provider in which enough failed for any part of it to trip: of a week that is
# well, none.
_MINUTES: Final = text(f"""
WITH minute AS MATERIALIZED (
  SELECT {_MINUTE} AS minute, provider_id, count(*) AS calls, count(*) FILTER (WHERE {FAILING}) AS failing
  FROM service_provider_calls WHERE at >= :since
  GROUP BY 1, 2
), bad AS MATERIALIZED (
  SELECT minute, provider_id FROM minute
  WHERE calls >= :calls AND failing >= :least
), called AS MATERIALIZED (
  SELECT minute, count(*) AS providers FROM minute WHERE minute IN (SELECT minute FROM bad) GROUP BY minute
)
SELECT bad.minute, bad.provider_id, endpoint, tenant, called.providers, count(*) AS calls,
  count(*) FILTER (WHERE {FAILING}) AS failing
FROM bad JOIN called USING (minute)
  JOIN service_provider_calls AS call ON call.provider_id = bad.provider_id
    AND {_MINUTE} = bad.minute AND call.at >= :since
GROUP BY GROUPING SETS (
  (bad.minute, called.providers, bad.provider_id),
  (bad.minute, called.providers, bad.provider_id, endpoint),
  (bad.minute, called.providers, bad.provider_id, tenant))
HAVING count(*) >= :calls AND count(*) FILTER (WHERE {FAILING}) * 100 >= :share * count(*)
ORDER BY bad.minute
""")  # noqa: S608 - our own words
# Rows of failing calls with none that was answered between them: found at the one that is enough, if there were so few
# calls in the minute before it that they told nothing.
_QUIET: Final = text(f"""
WITH marked AS (
  SELECT provider_id, at, {FAILING} AS failing,
    count(*) FILTER (WHERE NOT ({FAILING})) OVER row_of AS row,
    count(*) OVER (PARTITION BY provider_id ORDER BY at RANGE BETWEEN '1 minute' PRECEDING AND CURRENT ROW) AS lately
  FROM service_provider_calls
  WHERE at >= :since AND (:provider = '' OR provider_id = :provider)
  WINDOW row_of AS (PARTITION BY provider_id ORDER BY at, id)
)
SELECT provider_id, min(at) AS since, max(at) AS until, count(*) AS calls
FROM marked WHERE failing
GROUP BY provider_id, row
HAVING count(*) >= :quiet AND (array_agg(lately ORDER BY at))[:quiet] < :calls
ORDER BY since
""")  # noqa: S608


async def what_if(
    session: AsyncSession,
    since: datetime,
    limits: Limits,
    families: Mapping[str, str],
    *,
    provider_id: str = "",
    limit: int = 100,
) -> list[WouldBe]:
    """What would have been found since then, the latest first and at most so many. Seconds for a million calls."""
    tripped = episodes(await _minutes(session, since, limits), limits, families)
    quiet = [each for each in await _quiet(session, since, limits, provider_id) if not _within(each, tripped)]
    found = [each for each in (*tripped, *quiet) if provider_id in {"", each.provider_id, *each.names}]
    latest = sorted(found, key=lambda each: each.since, reverse=True)[:limit]
    return [await _judged(session, each, limits) for each in latest]


async def _minutes(session: AsyncSession, since: datetime, limits: Limits) -> list[Minute]:
    asked = {
        "since": since,
        "calls": limits.calls,
        "share": limits.share,
        "least": ceil(limits.calls * limits.share / 100),
    }
    rows = (await session.execute(_MINUTES, asked)).all()
    found = []
    for (at, called), some in groupby(rows, key=lambda row: (row.minute, row.providers)):
        groups = tuple(Group.model_validate(row, from_attributes=True) for row in some)
        found.append(Minute(at=at, groups=groups, called=called))
    return found


async def _quiet(session: AsyncSession, since: datetime, limits: Limits, provider_id: str) -> list[Episode]:
    asked = {"since": since, "provider": provider_id, "calls": limits.calls, "quiet": limits.quiet_calls}
    return [
        Episode(
            provider_id=row.provider_id,
            since=row.since,
            until=row.until,
            calls=row.calls,
            failing=row.calls,
            quiet=True,
        )
        for row in await session.execute(_QUIET, asked)
    ]


def _within(quiet: Episode, tripped: list[Episode]) -> bool:
    """Whether a busier minute of it tripped as well."""
    return any(
        quiet.provider_id in {each.provider_id, *each.names} and quiet.since < each.until and each.since < quiet.until
        for each in tripped
    )


async def _judged(session: AsyncSession, episode: Episode, limits: Limits) -> WouldBe:
    if episode.provider_id == OURS:
        return would_be(episode, Scope.OURS, episode.names, episode.why)
    cells = await matrix(session, episode.provider_id, episode.since, episode.found_at)
    reach = scope_of(cells, limits)
    return would_be(episode, reach.scope, reach.names, reach.why)
