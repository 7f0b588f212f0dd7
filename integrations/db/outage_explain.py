"""Everything that is known of one outage, from rows alone: it works while the workers and Temporal are down."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import case, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.in_time import in_time
from integrations.db.outage_parked import waited
from integrations.db.outage_tables import Mitigation, Outage, OutageNote, ParkedJob
from integrations.db.session import Sessions
from integrations.domain.outage import Baseline, Brake, Finding, Step
from integrations.domain.outage_chart import COLUMNS
from integrations.domain.outage_page import Braked, Explained, Note, Standing, Traffic, span
from integrations.domain.outage_words import providers
from integrations.domain.verdict import TRANSIENT

# One walk over the key's last part: the calls of everybody between two moments.
_TRAFFIC: Final = text("""
SELECT floor(extract(epoch FROM at - cast(:start AS timestamptz)) / cast(:width AS float))::int AS column,
  count(*) AS calls,
  count(*) FILTER (WHERE outcome = ANY(:failing)) AS failing
FROM service_provider_calls
WHERE at >= :start AND at < :end AND provider_id = ANY(:providers)
  AND (:scope IN ('provider', 'ours') OR endpoint = ANY(:names) OR tenant = ANY(:names))
GROUP BY 1 ORDER BY 1
""")


async def explained(sessions: Sessions, standing: Standing) -> Explained:
    """What decided, what was done, what came of it, and the chart that it makes."""
    async with sessions.begin() as session:
        now = (await session.execute(select(func.now()))).scalar_one()
        row = await session.get_one(Outage, standing.outage)
        notes = (await session.scalars(_of(OutageNote, standing).order_by(OutageNote.id))).all()
        brakes = (await session.scalars(_of(Mitigation, standing).order_by(Mitigation.id))).all()
        parked = await _parked(session, standing)
    start, end = span(standing.since, standing.closed_at, now)
    return Explained(
        standing=standing,
        finding=Finding.model_validate(row.finding) if row.finding else None,
        baseline=Baseline.model_validate(row.baseline) if row.baseline else None,
        timeline=tuple(_note(each) for each in notes),
        journal=tuple(_brake(each) for each in brakes),
        parked=parked,
        start=start,
        end=end,
        traffic=await _traffic(sessions, standing, start, end),
        now=now,
    )


def _of(table: Any, standing: Standing) -> Any:
    return select(table).where(table.outage_id == standing.outage)


async def _parked(session: AsyncSession, standing: Standing) -> dict[str, int]:
    unsettled = case((ParkedJob.released_at.is_(None), "parked"), else_="going on")
    word = func.coalesce(ParkedJob.outcome, unsettled).label("word")
    found = await session.execute(
        select(word, func.count().label("jobs"))
        .where(waited(standing.provider, standing.names, standing.since, standing.closed_at))
        .group_by(word)
        .order_by(func.count().desc(), word)
    )
    return {each.word: each.jobs for each in found}


async def _traffic(
    sessions: Sessions, standing: Standing, start: datetime, end: datetime
) -> tuple[Traffic, ...] | None:
    asked = {
        "start": start,
        "end": end,
        "width": (end - start).total_seconds() / COLUMNS,
        "failing": sorted(TRANSIENT),
        "providers": providers(standing.provider, standing.names),
        "scope": standing.scope,
        "names": list(standing.names),
    }
    found = await in_time(sessions, _TRAFFIC, asked)
    if found is None:
        return None
    return tuple(Traffic(column=row.column, calls=row.calls, failing=row.failing) for row in found)


def _note(row: OutageNote) -> Note:
    return Note(at=row.at, step=Step(row.step), what=row.what, percent=row.percent, rate=row.rate, facts=row.facts)


def _brake(row: Mitigation) -> Braked:
    return Braked(
        brake=Brake(row.brake),
        provider=row.provider_id,
        name=row.name,
        rate=row.rate,
        reason=row.reason,
        put_by=row.put_by,
        put_at=row.put_at,
        changed_at=row.changed_at,
        lease_until=row.lease_until,
        released_at=row.released_at,
        released_by=row.released_by,
        released_reason=row.released_reason,
    )
