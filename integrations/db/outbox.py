"""The only way into the outbox."""

from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.tables import Connection, OutboxEvent
from integrations.domain.connection import partition_of


async def enqueue(
    session: AsyncSession, connection_id: UUID, event_id: UUID, name: str, payload: dict[str, Any]
) -> bool:
    """Put an event about a connection into the caller's transaction. False when the event id is there already.

    Takes the connection's row lock, which the caller usually holds, and gives the event the connection's next number:
    whoever reads by `seq` reads in the order of commits.
    """
    if await session.scalar(select(OutboxEvent.event_id).where(OutboxEvent.event_id == event_id)):
        return False
    owner = (
        await session.execute(
            update(Connection)
            .where(Connection.id == connection_id)
            .values(seq=Connection.seq + 1)
            .returning(Connection.provider_id, Connection.scope_type, Connection.scope_id, Connection.seq)
        )
    ).one()
    order_key = str(connection_id)
    added = await session.execute(
        insert(OutboxEvent)
        .values(
            event_id=event_id,
            name=name,
            provider_id=owner.provider_id,
            scope_type=owner.scope_type,
            scope_id=owner.scope_id,
            connection_id=connection_id,
            order_key=order_key,
            part=partition_of(order_key),
            seq=owner.seq,
            payload=payload,
        )
        .on_conflict_do_nothing()
        .returning(OutboxEvent.event_id)
    )
    return added.scalar() is not None
