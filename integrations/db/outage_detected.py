"""Outages between two looks of the detector: which are open, which are over by themselves, which nobody is at."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outage_counts import since
from integrations.db.outage_tables import Mitigation, Outage
from integrations.domain.outage import DETECTOR, Limits, OutageRequest, Scope
from integrations.domain.outage_look import still

_UNCALLED: Final = timedelta(minutes=10)
"""After this one is over that is not called any more: who was refused comes back after five minutes at most."""


async def all_open(session: AsyncSession) -> Sequence[Outage]:
    query = select(Outage).where(Outage.closed_at.is_(None)).order_by(Outage.provider_id)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def seen(session: AsyncSession, provider_ids: Collection[str]) -> None:
    """They are found again, and somebody is at it already."""
    mine = Outage.provider_id.in_(provider_ids), Outage.closed_at.is_(None)
    await session.execute(update(Outage).where(*mine).values(seen_at=func.now()))


async def over(session: AsyncSession, outage: Outage, limits: Limits) -> str | None:
    """Why one that was only looked at, and does not trip now, is over. None: it is not, its calls fail as before.

    Whoever waits for a provider calls it ever more seldom: too few calls to trip are no recovery.
    """
    if outage.scope == Scope.OURS:
        return "no longer do so many providers fail at once"
    now = await session.scalar(select(func.now()))
    assert now is not None
    cells = await since(session, outage.provider_id, now - limits.window)
    fails = still(cells, Scope(outage.scope), outage.names, limits)
    if fails:
        await seen(session, [outage.provider_id])
    elif fails is False:
        return "its calls are answered again"
    elif outage.seen_at < now - _UNCALLED:
        return "it is not called any more"
    return None


async def act(session: AsyncSession, outage_id: UUID) -> None:
    """It is no longer only looked at: nothing keeps the platform from acting."""
    await session.execute(update(Outage).where(Outage.id == outage_id).values(observed=False, why_not=None))


async def unattended(session: AsyncSession, limits: Limits) -> list[OutageRequest]:
    """Open ones that may lack their workflow, to be started or joined: of a platform that may act, all of them.

    Where a brake is on, one was at it: when it was ended by hand, the brake's lease is waited for, and reconcile
    releases it. What a person opened a moment ago is that person's to start.
    """
    brake = exists().where(Mitigation.outage_id == Outage.id, Mitigation.released_at.is_(None))
    mine = or_(Outage.opened_by == DETECTOR, Outage.opened_at < func.now() - limits.every)
    query = select(Outage).where(Outage.closed_at.is_(None), ~brake, mine)
    return [
        OutageRequest(provider_id=each.provider_id, by=each.opened_by, reason=each.reason)
        for each in await session.scalars(query.order_by(Outage.provider_id))
    ]
