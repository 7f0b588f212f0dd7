"""The undo journal: the brakes that are on, each with a lease, and since when; what is released stays as a line.

A line is written before its brake is put on, and marked as released after it is off. So whoever dies in between leaves
something to undo. A circuit and a shield are nothing but their lines: what they hold back asks here.

One place has one outage. What another open one holds already stays that one's, for it has evidence of its own and goes
by that; whoever comes second is told, and may ask again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, case, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outage_tables import Mitigation, Outage
from integrations.domain.errors import StopError
from integrations.domain.outage import Before, Brake, Cut, Target

_ON: Final = Mitigation.released_at.is_(None)
_LOST_AFTER: Final = timedelta(minutes=5)
"""An open outage without a brake, of which nobody has written for so long."""
# Of several at once the first has the row: the others find, when it is theirs, that the moment is taken.
_ADMITTED: Final = text("""
UPDATE service_mitigations SET admitted_at = now()
WHERE id = :id AND released_at IS NULL AND rate > 0
  AND (admitted_at IS NULL OR admitted_at <= now() - make_interval(secs => 1 / rate))
RETURNING id
""")
_LOCKED: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('brakes ' || :provider_id, 0))")


async def lock(session: AsyncSession, provider_id: str) -> None:
    """Until the commit nobody else compares a provider's queue with the journal, or changes it."""
    await session.execute(_LOCKED, {"provider_id": provider_id})


async def put(
    session: AsyncSession,
    outage_id: UUID,
    cuts: Sequence[Cut],
    lease: timedelta,
    *,
    reason: str,
    by: str,
    before: Mapping[Target, Before] = MappingProxyType({}),
) -> list[Target]:
    """Write down brakes that are to be put on, or changed. Those that are not: another open outage holds them.

    `before`: what somebody else had said there, which a brake never loosens. Of one that is changed it stays what it
    was. Raises StopError when the outage is closed: whoever comes late puts nothing on.
    """
    # Shared with whoever puts on, and against whoever closes it.
    opened = select(Outage.id).where(Outage.id == outage_id, Outage.closed_at.is_(None)).with_for_update(read=True)
    if await session.scalar(opened) is None:
        raise StopError(f"outage {outage_id} is closed: nothing is held back for it any more")
    # In one order everywhere: two that put on at once wait for each other, and not both.
    ordered = sorted(cuts, key=lambda cut: _place(cut.target))
    if not ordered:
        return []
    told = {"reason": reason, "put_by": by, "lease_until": func.now() + lease}
    wanted = insert(Mitigation).values(
        [
            {
                "outage_id": outage_id,
                "rate": _at_most(cut.rate, was),
                "before": was.rate,
                "before_weight": was.weight,
            }
            | dict(zip(_PLACE, _place(cut.target), strict=True))
            | told
            for cut in ordered
            for was in [before.get(cut.target, Before())]
        ]
    )
    given = wanted.excluded
    rate = func.least(given.rate, Mitigation.before * func.coalesce(Mitigation.before_weight, 1))
    held = await session.execute(
        wanted.on_conflict_do_update(
            index_elements=[Mitigation.provider_id, Mitigation.brake, Mitigation.name],
            index_where=text("released_at IS NULL"),
            set_={
                "rate": rate,
                "reason": given.reason,
                "lease_until": given.lease_until,
                "changed_at": case((Mitigation.rate.is_distinct_from(rate), func.now()), else_=Mitigation.changed_at),
            },
            where=Mitigation.outage_id == given.outage_id,
        ).returning(Mitigation.provider_id, Mitigation.brake, Mitigation.name)
    )
    ours = {tuple(row) for row in held}
    return [cut.target for cut in ordered if _place(cut.target) not in ours]


async def renew(session: AsyncSession, outage_id: UUID, lease: timedelta) -> int:
    """Hold what is on for so long from now. How many brakes."""
    renewed = await session.execute(
        update(Mitigation).where(Mitigation.outage_id == outage_id, _ON).values(lease_until=func.now() + lease)
    )
    return int(renewed.rowcount)  # type: ignore[attr-defined]


async def release(
    session: AsyncSession, outage_id: UUID, provider_id: str, *, by: str, reason: str, lapsed_only: bool = False
) -> int:
    """Mark an outage's brakes at one provider as released. How many were on.

    `lapsed_only`: not those whose lease somebody has renewed meanwhile.
    """
    released = await session.execute(
        update(Mitigation)
        .where(_of(outage_id, lapsed_only=lapsed_only), Mitigation.provider_id == provider_id)
        .values(released_at=func.now(), released_by=by, released_reason=reason)
    )
    return int(released.rowcount)  # type: ignore[attr-defined]


async def on(session: AsyncSession, outage_id: UUID, *, lapsed_only: bool = False) -> Sequence[Mitigation]:
    """The brakes that an outage holds, whatever their lease."""
    query = select(Mitigation).where(_of(outage_id, lapsed_only=lapsed_only)).order_by(Mitigation.id)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def of_provider(session: AsyncSession, provider_id: str) -> Sequence[Mitigation]:
    """The brakes that are on at a provider, whoever holds them and whatever their lease."""
    query = select(Mitigation).where(Mitigation.provider_id == provider_id, _ON).order_by(Mitigation.id)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def before_ours(session: AsyncSession, provider_id: str, brake: Brake) -> float | None:
    """To how much somebody else had limited a provider's queue, or each key of it, before the last such brake there."""
    query = select(Mitigation.before).where(Mitigation.provider_id == provider_id, Mitigation.brake == brake)
    return await session.scalar(query.order_by(Mitigation.id.desc()).limit(1))


def tenants(lines: Sequence[Mitigation]) -> list[str]:
    """Those of them that are held back alone."""
    return [line.name for line in lines if line.brake == Brake.TENANT]


async def tenants_ever(session: AsyncSession, provider_id: str) -> dict[str, float | None]:
    """Those that were held back at a provider at any time, and the weights that somebody else had given them before."""
    query = select(Mitigation.name, Mitigation.before_weight).where(
        Mitigation.provider_id == provider_id, Mitigation.brake == Brake.TENANT
    )
    last = query.ext(distinct_on(Mitigation.name)).order_by(Mitigation.name, Mitigation.id.desc())
    return {row.name: row.before_weight for row in await session.execute(last)}


async def queues_ever(session: AsyncSession) -> Sequence[str]:
    """The providers whose queues were held back at any time, or one tenant in them."""
    query = select(Mitigation.provider_id).where(Mitigation.brake.in_((Brake.QUEUE, Brake.TENANT)))
    return (await session.scalars(query.distinct().order_by(Mitigation.provider_id))).all()


async def circuit(session: AsyncSession, provider_id: str, endpoint: str) -> Mitigation | None:
    """The circuit of an endpoint, where there is one: most times one look into an index of what is on."""
    return await session.scalar(
        select(Mitigation)
        .where(
            Mitigation.provider_id == provider_id,
            Mitigation.brake == Brake.CIRCUIT,
            Mitigation.name == endpoint,
            _ON,
        )
        .execution_options(populate_existing=True)
    )


async def admitted(session: AsyncSession, row: Mitigation) -> bool:
    """Let one call through a circuit, if it is time for one. It counts once the transaction is committed."""
    return await session.scalar(_ADMITTED, {"id": row.id}) is not None


async def holder(session: AsyncSession, row: Mitigation) -> Outage:
    """The outage that holds a brake."""
    return await session.get_one(Outage, row.outage_id)


async def lapsed(session: AsyncSession) -> Sequence[tuple[Outage, datetime | None]]:
    """Outages that nobody seems to look after, and since when a lease of theirs has run out.

    None: they have no brake on, and nobody has written of them for minutes.
    """
    ran_out = (
        select(Mitigation.outage_id, func.min(Mitigation.lease_until).label("since"))
        .where(_ON, Mitigation.lease_until < func.now())
        .group_by(Mitigation.outage_id)
        .subquery()
    )
    unbraked = ~exists().where(Mitigation.outage_id == Outage.id, _ON)
    untold = and_(Outage.closed_at.is_(None), ~Outage.observed, Outage.seen_at < func.now() - _LOST_AFTER, unbraked)
    query = (
        select(Outage, ran_out.c.since)
        .outerjoin(ran_out, ran_out.c.outage_id == Outage.id)
        .where(or_(ran_out.c.outage_id.is_not(None), untold))
        .order_by(Outage.opened_at)
    )
    return [(outage, since) for outage, since in await session.execute(query)]


_PLACE: Final = ("provider_id", "brake", "name")


def _place(target: Target) -> tuple[str, str, str]:
    return target.provider_id, target.brake.value, target.name


def _at_most(rate: float | None, before: Before) -> float | None:
    """No more than somebody else lets out there."""
    if rate is None or before.rate is None:
        return rate
    return min(rate, before.rate * (1 if before.weight is None else before.weight))


def _of(outage_id: UUID, *, lapsed_only: bool) -> Any:
    ran_out = [Mitigation.lease_until < func.now()] if lapsed_only else []
    return and_(Mitigation.outage_id == outage_id, _ON, *ran_out)
