"""May the platform do this by itself now? Asked in the very transaction that would do it.

What it may not do is written down once for each connection, step and cause, and found again later: a detection waits as
a row for whoever announces it, and what a refresh says is said by the next one as well.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, cast

from sqlalchemy import and_, delete, func, literal, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import shield
from integrations.db.automation_tables import AutomationPause, WouldHaveDone
from integrations.db.outage_tables import Mitigation
from integrations.db.tables import Connection, Deployment, GrantEvent
from integrations.domain.automation import Automation, Conduct, FailureMode, Pause, Step, Undone, shielded
from integrations.domain.ledger import Failure

KEPT: Final = timedelta(days=30)
"""How long it is known what would have been done."""
OBSERVES: Final = "the platform observes (RUNBOOK_MODE=observe)"
_LISTED: Final = 100
_CAUSE_LIMIT: Final = 500
_LASTS: Final = AutomationPause.until > func.now()


async def why_not(session: AsyncSession, mode: FailureMode, row: Connection | None = None) -> str | None:
    """What keeps the platform from acting by itself, in words. None: it may.

    `row`: on this connection, which the shield of its provider's outage may cover. One look without a lock: what was
    asked a moment before somebody paused is still done.
    """
    once = select(literal(1).label("once")).subquery()
    pause = and_(AutomationPause.mode == mode, _LASTS)
    query = (
        select(Deployment.conduct, AutomationPause, Mitigation.put_at)
        .select_from(once)
        .outerjoin(Deployment, true())
        .outerjoin(AutomationPause, pause)
        .outerjoin(Mitigation, literal(False) if row is None else shield.over(row))
        .order_by(AutomationPause.until.desc(), Mitigation.put_at)
        .limit(1)
    )
    # An outer join's halves may be missing, which their types do not tell.
    conduct, found, shielded_since = cast(
        "tuple[str | None, AutomationPause | None, datetime | None]", (await session.execute(query)).one()
    )
    if conduct == Conduct.OBSERVE:
        return OBSERVES
    if row is not None and shielded_since is not None:
        return shielded(row.provider_id, shielded_since)
    if found is None:
        return None
    return f"{mode} is paused by {found.paused_by} until {found.until:%Y-%m-%d %H:%M} UTC: {found.reason}"


async def may(session: AsyncSession, row: Connection, mode: FailureMode, step: Step, *, cause: str) -> bool:
    """Whether the platform may do this to a connection by itself. What it may not, it is noted to have wanted."""
    if await why_not(session, mode, row) is None:
        return True
    failure = Failure.of(step, cause)
    told = {"mode": mode, "cause": cause[:_CAUSE_LIMIT], "last_at": func.now()}
    await session.execute(
        insert(WouldHaveDone)
        .values(connection_id=row.id, step=step, fingerprint=failure.fingerprint, **told)
        .on_conflict_do_update(
            index_elements=[WouldHaveDone.connection_id, WouldHaveDone.step, WouldHaveDone.fingerprint],
            set_=told | {"times": WouldHaveDone.times + 1},
        )
    )
    return False


async def conduct(session: AsyncSession, wanted: Conduct) -> None:
    """Write down how the platform goes about what it finds, from now on. It has a deployment: see `binding`."""
    await session.execute(
        update(Deployment).where(Deployment.conduct != wanted).values(conduct=wanted, conduct_since=func.now())
    )


async def pause(
    session: AsyncSession, modes: Collection[FailureMode], lease: timedelta, *, by: str, reason: str
) -> list[Pause]:
    """Pause these for so long. One that is paused already is extended, and never ends sooner for it."""
    until = func.now() + lease
    extended = await session.scalars(
        update(AutomationPause)
        .where(AutomationPause.mode.in_(modes), _LASTS)
        .values(until=func.greatest(AutomationPause.until, until), paused_by=by, reason=reason)
        .returning(AutomationPause.mode)
    )
    fresh = sorted(set(modes) - set(extended.all()))
    if fresh:
        given = {"until": until, "paused_by": by, "reason": reason}
        await session.execute(insert(AutomationPause).values([{"mode": mode} | given for mode in fresh]))
    return [each for each in await _pauses(session) if each.mode in modes]


async def resume(session: AsyncSession, modes: Collection[FailureMode], *, by: str, reason: str) -> list[FailureMode]:
    """End the pauses of these. Those that were paused."""
    ended = await session.scalars(
        update(AutomationPause)
        .where(AutomationPause.mode.in_(modes), _LASTS)
        .values(until=func.now(), resumed_by=by, resumed_reason=reason)
        .returning(AutomationPause.mode)
    )
    return sorted({FailureMode(mode) for mode in ended.all()})


async def look(session: AsyncSession, limit: int = _LISTED) -> Automation:
    """How the platform conducts itself, and what it has not done since it began to hold back."""
    deployment = await session.get(Deployment, True)
    pauses = await _pauses(session)
    observes = deployment is not None and deployment.conduct == Conduct.OBSERVE
    held = [and_(WouldHaveDone.mode == each.mode, WouldHaveDone.last_at >= each.since) for each in pauses]
    held.append(shield.over_each(at=WouldHaveDone.last_at))
    if deployment is not None and observes:
        held.append(WouldHaveDone.last_at >= deployment.conduct_since)
    undone = (
        await session.execute(
            select(WouldHaveDone, Connection, func.count().over())
            .join(Connection, Connection.id == WouldHaveDone.connection_id)
            .where(or_(literal(False), *held))
            .order_by(WouldHaveDone.last_at.desc(), WouldHaveDone.connection_id, WouldHaveDone.step)
            .limit(limit)
        )
    ).all()
    waiting = select(func.count()).where(GrantEvent.handled_at.is_(None), ~GrantEvent.ordered)
    return Automation(
        conduct=Conduct.OBSERVE if observes else Conduct.ACT,
        conduct_since=deployment.conduct_since if deployment is not None and observes else None,
        pauses=tuple(pauses),
        shields=tuple(await shield.up(session)),
        undone=tuple(_undone(row, connection) for row, connection, _ in undone),
        undone_total=undone[0][2] if undone else 0,
        waiting=await session.scalar(waiting) or 0,
    )


async def forget(session: AsyncSession) -> None:
    """What would have been done long ago is nobody's question any more."""
    await session.execute(delete(WouldHaveDone).where(WouldHaveDone.last_at < func.now() - KEPT))


async def _pauses(session: AsyncSession) -> list[Pause]:
    """Those that last; the longest of a mode, if two people paused it at once."""
    query = select(AutomationPause).where(_LASTS).order_by(AutomationPause.mode, AutomationPause.until)
    found = await session.scalars(query.execution_options(populate_existing=True))
    longest = {row.mode: row for row in found}
    return [
        Pause(mode=FailureMode(mode), since=row.since, until=row.until, by=row.paused_by, reason=row.reason)
        for mode, row in longest.items()
    ]


def _undone(row: WouldHaveDone, connection: Connection) -> Undone:
    return Undone(
        connection_id=row.connection_id,
        provider_id=connection.provider_id,
        tenant=connection.tenant,
        mode=FailureMode(row.mode),
        step=Step(row.step),
        cause=row.cause,
        times=row.times,
        first_at=row.first_at,
        last_at=row.last_at,
    )
