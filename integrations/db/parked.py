"""What waits for a provider's outage to be over: parked jobs, and refreshes that were put off.

A parked job is a row; its workflow waits beside it for the signal to go on, and settles the row when it ends.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Integer,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outage_tables import Outage, ParkedJob
from integrations.db.refresh import REFRESHABLE
from integrations.db.tables import FAILING
from integrations.domain.job import PATIENCE_AGAIN
from integrations.domain.outage import OURS, Scope
from integrations.domain.parked import Parked, Parking, Replaying, Waiting
from integrations.domain.run import Run

FORGOTTEN: Final = timedelta(minutes=1)
"""Parked for longer where no outage is open, a job has nobody who would tell it to go on but reconcile."""
BATCH: Final = 100
KEPT: Final = timedelta(days=30)
"""How long it is known what became of a parked job."""
_OUTCOME_WITHIN: Final = PATIENCE_AGAIN
"""A replay waits so long for a job that went on, or a refresh that is due: trouble of its own holds up nobody."""
_CAUSE_LIMIT: Final = 500
_RECENT: Final = timedelta(minutes=10)
"""An attempt is made every five minutes at least; calls are indexed by their time alone."""
_UNTRIED: Final = "no attempt of the last ten minutes reached its provider"
_WAITS: Final = and_(ParkedJob.released_at.is_(None), ParkedJob.settled_at.is_(None))
# An outage looks after the jobs within its reach alone: who else is parked has nobody. Without a token none goes on.
_HELD: Final = exists().where(
    Outage.closed_at.is_(None),
    ~Outage.observed,
    or_(
        and_(
            Outage.provider_id == ParkedJob.provider_id,
            or_(
                Outage.scope == Scope.PROVIDER,
                # Some outages hold back an endpoint and a tenant.
                ParkedJob.tenant == any_(Outage.names),
                ParkedJob.capability == any_(Outage.names),
                literal("token") == any_(Outage.names),
            ),
        ),
        and_(Outage.provider_id == OURS, ParkedJob.provider_id == any_(Outage.names)),
    ),
)
_FORGOTTEN: Final = and_(_WAITS, ParkedJob.parked_at < func.now() - FORGOTTEN, ~_HELD)
_LAST_CALL: Final = text("""
SELECT coalesce(status::text, 'no answer') || ': ' || outcome || ' (' || rule || ')' FROM service_provider_calls
WHERE at > now() - cast(:recent AS interval) AND connection_id = :connection ORDER BY at DESC LIMIT 1
""")
# Once it was tried again it has an outcome: one that fails still has trouble of its own, and holds up nobody. Nor does
# one that is due for long and that no sweep takes.
_LATE_REFRESHES: Final = text(f"""
SELECT count(*) FROM service_credentials AS kept JOIN service_connections AS connection
  ON connection.id = kept.connection_id AND connection.status = ANY (:refreshable)
WHERE kept.provider_id = :provider AND {FAILING} AND failing_since < :since
  AND refresh_at > now() - cast(:within AS interval)
  AND NOT EXISTS (SELECT FROM service_provider_calls AS call WHERE call.at >= :since AND call.purpose = 'refresh'
    AND call.connection_id = kept.connection_id)
""")  # noqa: S608 - ours
# In the order in which they began to fail. None is due later than it was.
_DUE: Final = text(f"""
WITH late AS (
  SELECT id, row_number() OVER (ORDER BY failing_since, id) - 1 AS place FROM service_credentials
  WHERE provider_id = :provider AND refresh_at IS NOT NULL AND {FAILING}
)
UPDATE service_credentials AS kept
SET refresh_at = least(kept.refresh_at, now() + late.place * cast(:apart AS interval))
FROM late WHERE kept.id = late.id AND kept.state = 'active'
""")  # noqa: S608 - ours
_RELEASED: Final = text("""
UPDATE service_parked_jobs AS job SET released_at = now(), released_by = :by
FROM unnest(:workflows, :runs, :times) AS told (workflow_id, run_id, times)
WHERE job.workflow_id = told.workflow_id AND job.run_id = told.run_id AND job.times = told.times
  AND job.released_at IS NULL AND job.settled_at IS NULL
""").bindparams(
    bindparam("workflows", type_=ARRAY(Text)),
    bindparam("runs", type_=ARRAY(Text)),
    bindparam("times", type_=ARRAY(Integer)),
)


async def park(session: AsyncSession, run: Run, parking: Parking) -> None:
    """Write down that a job waits. Safe to repeat, also after it was told to go on."""
    cause = parking.cause or await _last_call(session, parking.connection_id) or _UNTRIED
    values = parking.model_dump() | {"cause": cause[:_CAUSE_LIMIT], "run_id": run.run_id}
    fresh = insert(ParkedJob).values(workflow_id=run.workflow_id, **values)
    anew = {"parked_at": func.now(), **dict.fromkeys(("released_at", "released_by", "settled_at", "outcome"))}
    await session.execute(
        fresh.on_conflict_do_update(
            index_elements=[ParkedJob.workflow_id],
            set_=values | anew,
            # Another run is a job that failed and was asked for again.
            where=or_(ParkedJob.run_id != run.run_id, ParkedJob.times < parking.times),
        )
    )


async def settle(session: AsyncSession, run: Run, outcome: str) -> bool:
    """Write down how a parked job ended. False when that is known already, or the row is another run's."""
    settled = await session.execute(
        update(ParkedJob)
        .where(ParkedJob.workflow_id == run.workflow_id, ParkedJob.run_id == run.run_id, ParkedJob.settled_at.is_(None))
        .values(settled_at=func.now(), outcome=outcome)
    )
    return bool(settled.rowcount)  # type: ignore[attr-defined]


async def find(session: AsyncSession, workflow_id: str) -> Parked | None:
    """A job that is parked, or goes on and is not done yet."""
    row = await session.get(ParkedJob, workflow_id, populate_existing=True)
    return None if row is None or row.settled_at is not None else _told(row)


async def next_of(
    session: AsyncSession,
    provider_id: str,
    most: int,
    before: datetime | None = None,
    *,
    forgotten_only: bool = False,
) -> Sequence[Parked]:
    """The next jobs of a provider that are to go on, those first that wait longest.

    `before`: not what was parked later, as one that went on and was parked anew. `forgotten_only`: none that an open
    outage looks after.
    """
    waiting_there = _FORGOTTEN if forgotten_only else _WAITS
    query = select(ParkedJob).where(ParkedJob.provider_id == provider_id, waiting_there)
    if before is not None:
        query = query.where(ParkedJob.parked_at < before)
    return [
        _told(row)
        for row in await session.scalars(query.order_by(ParkedJob.parked_at, ParkedJob.workflow_id).limit(most))
    ]


async def released(session: AsyncSession, told: Sequence[Parked], *, by: str) -> None:
    """Write down that these were told to go on; not of one that is parked anew since."""
    values = {
        "workflows": [each.workflow_id for each in told],
        "runs": [each.run_id for each in told],
        "times": [each.times for each in told],
    }
    await session.execute(_RELEASED, values | {"by": by})


async def waiting(session: AsyncSession, provider_id: str, since: datetime) -> Waiting:
    """What waits at a provider, and what became of the jobs that have an outcome since then."""
    last = func.coalesce(ParkedJob.outcome, "")
    rows = await session.execute(
        select(last, ParkedJob.released_at.is_(None), ParkedJob.settled_at.is_(None), func.count())
        .where(ParkedJob.provider_id == provider_id, or_(ParkedJob.settled_at.is_(None), ParkedJob.settled_at >= since))
        .group_by(last, ParkedJob.released_at.is_(None), ParkedJob.settled_at.is_(None))
    )
    parked, going_on, outcomes = 0, 0, dict[str, int]()
    for outcome, unreleased, unsettled, count in rows:
        if not unsettled:
            outcomes[outcome] = outcomes.get(outcome, 0) + count
        elif unreleased:
            parked += count
        else:
            going_on += count
    return Waiting(parked=parked, released=going_on, outcomes=outcomes)


async def replaying(session: AsyncSession, provider_id: str, since: datetime) -> Replaying:
    """How far a replay is that began at `since`: of what was parked or put off before it, and of what went on since."""
    mine = and_(ParkedJob.provider_id == provider_id, ParkedJob.parked_at < since)
    told = ParkedJob.released_at >= since
    unsettled = ParkedJob.settled_at.is_(None)
    row = await session.execute(
        select(
            func.count().filter(unsettled, ParkedJob.released_at.is_(None)),
            func.count().filter(unsettled, told, ParkedJob.released_at > func.now() - _OUTCOME_WITHIN),
            func.count().filter(unsettled, told, ParkedJob.released_at <= func.now() - _OUTCOME_WITHIN),
            func.count().filter(ParkedJob.settled_at.is_not(None), told),
        ).where(mine)
    )
    parked, going, late, settled = row.one()
    asked = {"provider": provider_id, "refreshable": list(REFRESHABLE), "since": since, "within": _OUTCOME_WITHIN}
    refreshes = await session.scalar(_LATE_REFRESHES, asked) or 0
    return Replaying(parked=parked, going=going, late=late, done=settled, refreshes=refreshes)


async def refreshes_due(session: AsyncSession, provider_id: str, rate: float) -> int:
    """What was put off for a provider's trouble is due now, at so many a second. How many connections.

    The sweep takes what is due by then, fifty in each chunk: all of it at once would be three of these lanes' worth of
    calls at a provider that has just come back. Safe to repeat: what has been refreshed meanwhile is not late any more.
    """
    apart = timedelta(seconds=1 / rate)
    moved = await session.execute(_DUE, {"provider": provider_id, "apart": apart})
    return moved.rowcount  # type: ignore[attr-defined, no-any-return]


async def forgotten(session: AsyncSession) -> Sequence[str]:
    """Providers at which jobs are parked that no open outage looks after: closed, never found, or somebody else's."""
    query = select(ParkedJob.provider_id).where(_FORGOTTEN)
    return (await session.scalars(query.distinct().order_by(ParkedJob.provider_id))).all()


async def going_on(session: AsyncSession) -> Sequence[Parked]:
    """Jobs that were told to go on some time ago and have no outcome: tried again, or ended by hand."""
    late = and_(ParkedJob.released_at < func.now() - FORGOTTEN, ParkedJob.settled_at.is_(None))
    return [
        _told(row) for row in await session.scalars(select(ParkedJob).where(late).order_by(func.random()).limit(BATCH))
    ]


async def forget(session: AsyncSession) -> None:
    """What became of a job long ago is nobody's question any more."""
    await session.execute(delete(ParkedJob).where(ParkedJob.settled_at < func.now() - KEPT))


async def _last_call(session: AsyncSession, connection_id: UUID) -> str | None:
    found: str | None = await session.scalar(_LAST_CALL, {"recent": _RECENT, "connection": connection_id})
    return found


def _told(row: ParkedJob) -> Parked:
    return Parked(
        workflow_id=row.workflow_id,
        run_id=row.run_id,
        provider_id=row.provider_id,
        since=row.parked_at,
        times=row.times,
        cause=row.cause,
        released_at=row.released_at,
    )
