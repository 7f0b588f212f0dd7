"""Single flight of refreshes, across processes: a lease with a fencing token, and the mark of what was sent."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.tables import RefreshLease

LEASE: Final = timedelta(seconds=30)
"""Longer than one call may take (8 s) and its database steps: a later holder finds a dead or voided predecessor."""


async def claim(session: AsyncSession, connection_id: UUID, lease: timedelta) -> int | None:
    """Claim the connection's refresh. The fencing token, or None while somebody else holds it.

    `lease` is longer than one call may take, so that a holder who is late is dead, or voided by the token.
    """
    claimed = await session.execute(
        insert(RefreshLease)
        .values(connection_id=connection_id, token=1, until=func.now() + lease)
        .on_conflict_do_update(
            index_elements=[RefreshLease.connection_id],
            set_={"token": RefreshLease.token + 1, "until": func.now() + lease},
            where=RefreshLease.until < func.now(),
        )
        .returning(RefreshLease.token)
    )
    return claimed.scalar()


async def find(session: AsyncSession, connection_id: UUID) -> RefreshLease | None:
    return await session.scalar(
        select(RefreshLease)
        .where(RefreshLease.connection_id == connection_id)
        .execution_options(populate_existing=True)
    )


async def mark_sent(session: AsyncSession, connection_id: UUID, token: int, version: int) -> bool:
    """Write down that a version's refresh token will go out. Its first time is kept: grace counts from it.

    False, and nothing may be sent, when the lease ran out or is another's. It lasts from now on, so that the answer
    comes before it ends.
    """
    marked = await session.execute(
        update(RefreshLease)
        .where(
            RefreshLease.connection_id == connection_id, RefreshLease.token == token, RefreshLease.until > func.now()
        )
        .values(
            until=func.now() + LEASE,
            sent_version=version,
            sent_at=case((RefreshLease.sent_version == version, RefreshLease.sent_at), else_=func.now()),
        )
        .returning(RefreshLease.token)
    )
    return marked.scalar() is not None


async def release(session: AsyncSession, connection_id: UUID, token: int, *, answered: bool) -> bool:
    """Give the lease back. False when it is no longer ours, and then nothing else may be written either.

    `answered`: the provider said yes or no, so nothing is ambiguous and the mark goes.
    """
    values: dict[str, object] = {"until": func.now() - timedelta(seconds=1)}
    if answered:
        values |= {"sent_version": None, "sent_at": None}
    released = await session.execute(
        update(RefreshLease)
        .where(RefreshLease.connection_id == connection_id, RefreshLease.token == token)
        .values(**values)
        .returning(RefreshLease.token)
    )
    return released.scalar() is not None
