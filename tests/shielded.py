"""A shield over a provider: put up, and lifted as an outage's workflow does it, in one transaction."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, update

from integrations.db import outages, shield
from integrations.db.outage_tables import Mitigation
from integrations.db.session import Sessions
from integrations.domain.outage import Brake, Scope


async def put_up(
    sessions: Sessions,
    provider_id: str = "simulator",
    tenant: str = "",
    *,
    outage_id: UUID | None = None,
    at: timedelta = timedelta(0),
) -> UUID:
    """The outage's id: a new one's, or the given one's, which is shielded there too. `at`: from now."""
    async with sessions.begin() as session:
        if outage_id is None:
            outage_id, _ = await outages.found(
                session, provider_id, scope=Scope.PROVIDER, names=[], reason="503", by="outage-detector"
            )
        session.add(
            Mitigation(
                outage_id=outage_id,
                provider_id=provider_id,
                brake=Brake.SHIELD,
                name=tenant,
                reason="503",
                put_by="outage-detector",
                put_at=func.now() + at,
                lease_until=func.now() + timedelta(minutes=2),
            )
        )
    return outage_id


async def lift(sessions: Sessions, outage_id: UUID) -> int:
    """How many connections are due for it."""
    async with sessions.begin() as session:
        await session.execute(
            update(Mitigation).where(Mitigation.outage_id == outage_id).values(released_at=func.now(), released_by="it")
        )
        return await shield.lifted(session, outage_id)


async def lapse(sessions: Sessions) -> None:
    """Nobody has renewed its lease for an hour."""
    async with sessions.begin() as session:
        await session.execute(update(Mitigation).values(lease_until=func.now() - timedelta(hours=1)))


async def is_up(sessions: Sessions) -> bool:
    async with sessions.begin() as session:
        return bool(await session.scalar(select(func.count()).where(Mitigation.released_at.is_(None))))
