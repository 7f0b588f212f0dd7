"""Connections that a provider can be probed with."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.tables import Connection, Credential
from integrations.domain.connection import Status

_MOST: Final = 100


async def freshest(session: AsyncSession, provider_id: str) -> list[tuple[Connection, Credential]]:
    """Working connections whose tokens are the newest, at most a hundred: a walk along the index of what is due."""
    query = (
        select(Connection, Credential)
        .join(Credential, Credential.connection_id == Connection.id)
        .where(
            Credential.provider_id == provider_id,
            Credential.state == "active",
            Credential.refresh_at.is_not(None),
            Connection.status == Status.ACTIVE,
        )
        .order_by(Credential.refresh_at.desc())
        .limit(_MOST)
    )
    return [(row[0], row[1]) for row in await session.execute(query)]


async def of_others(
    session: AsyncSession, provider_id: str, tenants: Collection[str], *, among: bool = False
) -> list[tuple[Connection, Credential]]:
    """Working connections of other tenants than these, or `among` these; none of them in any order."""
    # Tenants who are counted together have no name.
    owners = [tuple(each.split(":", 1)) for each in tenants if ":" in each]
    owner = tuple_(Connection.scope_type, Connection.scope_id)
    query = (
        select(Connection, Credential)
        .join(Credential, Credential.connection_id == Connection.id)
        .where(
            Connection.provider_id == provider_id,
            Connection.status == Status.ACTIVE,
            owner.in_(owners) if among else owner.not_in(owners),
            Credential.state == "active",
        )
        .limit(_MOST)
    )
    return [(row[0], row[1]) for row in await session.execute(query)]
