"""Recorded calls of one provider, counted: its failure matrix, and how it did before its trouble began."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.calls import FAILING
from integrations.domain.outage import Baseline, Brake, Cell, Success, Target
from integrations.domain.verdict import Meaning

WORST: Final = 50
"""Cells of a matrix that stand for themselves. The others are small parts of the trouble, counted together."""
_ALL: Final = 1_000_000
LONGEST: Final = timedelta(days=1)
"""Calls are found by their time alone: to go further back for one quiet provider reads everybody's of a week."""
_LOOKED_BACK: Final = (timedelta(hours=1), LONGEST)
_SPANS: Final = (timedelta(minutes=10), timedelta(hours=1), LONGEST)
_MINUTE: Final = timedelta(minutes=1)
_LEAST: Final = timedelta(seconds=10)
"""That a rate is told by."""
_ENOUGH: Final = 20
"""Calls that say how it was. With fewer, a longer time is looked at."""

# Read backwards, a failing call weighs against three that are answered: the sum is greatest at the call with which a
# trouble began, of which a quarter of the calls is enough. A time-out of long before is no beginning, and one success
# in an outage is no end.
_WEIGHT: Final = f"sum(CASE WHEN {FAILING} THEN 3 ELSE -1 END)"
# What went well before the trouble says nothing of now. It may be the provider's, an endpoint's or a tenant's: whose
# sum is greatest knows when it began. By the same weight cells stand for themselves. The others at an endpoint keep
# their number: that a tenant is alone in its trouble is told by how many others have none.
_MATRIX: Final = text(f"""
WITH call AS MATERIALIZED (
  SELECT at, endpoint, tenant, {FAILING} AS failing, greatest(
    {_WEIGHT} OVER (ORDER BY at DESC, id DESC),
    {_WEIGHT} OVER (PARTITION BY endpoint ORDER BY at DESC, id DESC),
    {_WEIGHT} OVER (PARTITION BY tenant ORDER BY at DESC, id DESC)) AS weight
  FROM service_provider_calls
  WHERE at >= :since AND at < coalesce(cast(:until AS timestamptz), 'infinity') AND provider_id = :provider
), beginning AS (
  SELECT at FROM call WHERE weight > 0 AND :trouble ORDER BY weight DESC, at LIMIT 1
), cell AS (
  SELECT endpoint, tenant, count(*) AS calls, count(*) FILTER (WHERE failing) AS failing
  FROM call
  WHERE at >= coalesce((SELECT at FROM beginning), :since)
  GROUP BY endpoint, tenant
), ranked AS (
  SELECT *, row_number() OVER (ORDER BY 4 * failing - calls DESC, endpoint, tenant) <= :worst AS stands FROM cell
)
SELECT endpoint, CASE WHEN stands THEN tenant ELSE '' END AS tenant, cast(sum(calls) AS bigint) AS calls,
  cast(sum(failing) AS bigint) AS failing, count(*) AS tenants
FROM ranked
GROUP BY 1, 2
ORDER BY failing DESC, calls DESC, 1, 2
""")  # noqa: S608 - our own words
_BEGAN: Final = text(f"""
SELECT (array_agg(at ORDER BY weight DESC, at) FILTER (WHERE weight > 0))[1] AS at, count(*) AS calls FROM (
  SELECT at, {_WEIGHT} OVER (ORDER BY at DESC, id DESC) AS weight
  FROM service_provider_calls
  WHERE at BETWEEN cast(:until AS timestamptz) - cast(:back AS interval) AND :until AND provider_id = :provider
) AS each
""")  # noqa: S608
_BEFORE: Final = text(f"""
SELECT count(*) AS calls, min(at) AS first, count(*) FILTER (WHERE {FAILING}) AS failing
FROM service_provider_calls
WHERE at >= :since AND at < :until AND provider_id = :provider
""")  # noqa: S608
# Minutes are counted back from the beginning, so that each of them is a whole one.
_BUSIEST: Final = text("""
SELECT coalesce(max(calls), 0) FROM (
  SELECT count(*) AS calls FROM service_provider_calls
  WHERE at >= :since AND at < :until AND provider_id = :provider
  GROUP BY floor(extract(epoch FROM cast(:until AS timestamptz) - at) / 60)
) AS each
""")


_LET_THROUGH: Final = text(f"""
SELECT endpoint, tenant, count(*) AS calls, count(*) FILTER (WHERE {FAILING}) AS failing
FROM service_provider_calls
WHERE at >= :since AND provider_id = :provider AND purpose <> 'probe'
GROUP BY endpoint, tenant
""")  # noqa: S608
# From the last one backwards: of whoever calls often no more is read than is wanted.
_LAST: Final = text(f"""
SELECT endpoint, tenant, 1 AS calls, CASE WHEN {FAILING} THEN 1 ELSE 0 END AS failing
FROM service_provider_calls
WHERE at >= :since AND provider_id = :provider AND endpoint <> ALL (:endpoints) AND tenant <> ALL (:tenants)
ORDER BY at DESC, id DESC
LIMIT :most
""")  # noqa: S608
# One revoked grant is refused twice before it is believed, and one wrong request may be sent all day.
_SUCCESS: Final = text(f"""
WITH last AS (
  SELECT DISTINCT ON (connection_id, purpose) purpose, NOT ({FAILING} OR outcome = '{Meaning.UNKNOWN}') AS fine
  FROM service_provider_calls
  WHERE at >= :since AND at < :until AND provider_id = ANY (:providers) AND purpose IN ('refresh', 'use')
  ORDER BY connection_id, purpose, at DESC, id DESC
)
SELECT count(*) FILTER (WHERE purpose = 'refresh') AS refreshes,
  count(*) FILTER (WHERE purpose = 'refresh' AND fine) AS refreshed,
  count(*) FILTER (WHERE purpose = 'use') AS uses,
  count(*) FILTER (WHERE purpose = 'use' AND fine) AS used
FROM last
""")  # noqa: S608 - ours


async def matrix(session: AsyncSession, provider_id: str, since: datetime, until: datetime | None = None) -> list[Cell]:
    """The trouble that its calls from `since` to `until` end in, by endpoint and tenant, the most failures first.

    Of the calls from its beginning on. Beyond the worst cells those of an endpoint are counted together, as one without
    a tenant's name. Where nothing fails: all calls.
    """
    return await _cells(session, provider_id, since, until, worst=WORST, trouble=True)


async def since(session: AsyncSession, provider_id: str, moment: datetime) -> list[Cell]:
    """All its calls at or after a moment, each cell for itself. Of the last half second nothing is written yet."""
    return await _cells(session, provider_id, moment, None, worst=_ALL, trouble=False)


async def _cells(
    session: AsyncSession, provider_id: str, since: datetime, until: datetime | None, *, worst: int, trouble: bool
) -> list[Cell]:
    asked = {"provider": provider_id, "since": since, "until": until, "worst": worst, "trouble": trouble}
    return [Cell(**row) for row in (await session.execute(_MATRIX, asked)).mappings()]


async def let_through(session: AsyncSession, provider_id: str, since: datetime) -> list[Cell]:
    """The same matrix without probes: what came of the calls that a brake has let through."""
    return [
        Cell(**row)
        for row in (await session.execute(_LET_THROUGH, {"provider": provider_id, "since": since})).mappings()
    ]


async def last(
    session: AsyncSession, provider_id: str, since: datetime, most: int, *, but: Iterable[Target]
) -> list[Cell]:
    """At most so many of its last calls since then, each a cell of one, probes too: those that `but` does not cover."""
    held = [each for each in but if each.provider_id == provider_id]
    endpoints = [each.name for each in held if each.brake is Brake.CIRCUIT]
    tenants = [each.name for each in held if each.brake is Brake.TENANT]
    asked = {"provider": provider_id, "since": since, "most": most, "endpoints": endpoints, "tenants": tenants}
    return [Cell(**row) for row in (await session.execute(_LAST, asked)).mappings()]


async def success(
    session: AsyncSession, provider_ids: Sequence[str], since: datetime, until: datetime | None = None
) -> Success:
    """How refreshes and capabilities went since: a connection counts once for each of the two, by its last call.

    A refusal that says who must act is an answer, and no sign of trouble.
    """
    asked = {"providers": list(provider_ids), "since": since, "until": until or datetime.max.replace(tzinfo=UTC)}
    return Success(**(await session.execute(_SUCCESS, asked)).mappings().one())


async def began(session: AsyncSession, provider_id: str, until: datetime) -> datetime:
    """When the trouble that is there at `until` began: its first failing call. `until` itself, when none failed.

    Looked for in the hour before, or in the day when it is called so seldom.
    """
    for back in _LOOKED_BACK:
        asked = {"provider": provider_id, "until": until, "back": back}
        found = (await session.execute(_BEGAN, asked)).one()
        if found.calls >= _ENOUGH:
            break
    return found.at or until


async def baseline(session: AsyncSession, provider_id: str, until: datetime) -> Baseline:
    """How it did before the trouble that is there at `until`.

    Of the ten minutes before the first failing call, or of the hour or the day, when it is called so seldom.
    The rate is the busiest minute's: a mean over quiet minutes would hold back a sweep that it took each minute, and
    more than it took is nobody's to promise. 0.0: it was never called.
    """
    start = await began(session, provider_id, until)
    for span in _SPANS:
        asked = {"provider": provider_id, "since": start - span, "until": start}
        before = (await session.execute(_BEFORE, asked)).mappings().one()
        if before["calls"] >= _ENOUGH:
            break
    busiest = await session.scalar(_BUSIEST, asked) or 0
    # Of a platform that began to call less than a minute before, no more than that can be told.
    known = start - before["first"] if before["first"] else _MINUTE
    rate = busiest / max(_LEAST, min(known, _MINUTE)).total_seconds()
    usual = 100 * (1 - before["failing"] / before["calls"]) if before["calls"] else 100.0
    went = await success(session, [provider_id], start - span, start)
    return Baseline(since=start - span, until=start, rate=rate, usual=usual, **went.model_dump())
