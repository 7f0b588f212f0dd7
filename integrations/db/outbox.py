"""The only way into the outbox."""

from typing import Any, cast
from uuid import UUID

from sqlalchemy import Table, bindparam, exists, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.ledger_tables import OutboxEvent
from integrations.db.tables import Connection
from integrations.domain.ledger import partition_of


async def enqueue(
    session: AsyncSession, connection_id: UUID, event_id: UUID, name: str, payload: dict[str, Any]
) -> bool:
    """Put an event about a connection into the caller's transaction. False when the event id is there already.

    Takes the connection's row lock, which the caller usually holds, and gives the event the connection's next number:
    whoever reads by `seq` reads in the order of commits. One statement: most steps tell something.
    """
    order_key = str(connection_id)
    added = await session.execute(
        _ENQUEUE,
        {
            "connection": connection_id,
            "event": event_id,
            "event_name": name,
            "payload": payload,
            "order_key": order_key,
            "part": partition_of(order_key),
        },
    )
    return added.scalar() is not None


_connections, _events = cast("Table", Connection.__table__), cast("Table", OutboxEvent.__table__)
# A repeated event must not use a number up: it is looked for before the number is taken.
_owner = (
    update(_connections)
    .where(_connections.c.id == bindparam("connection"))
    .where(~exists().where(_events.c.event_id == bindparam("event")))
    .values(seq=_connections.c.seq + 1)
    .returning(*(_connections.c[name] for name in ("id", "provider_id", "scope_type", "scope_id", "seq")))
    .cte("owner")
)
_told = {
    "event_id": bindparam("event", type_=_events.c.event_id.type),
    "name": bindparam("event_name", type_=_events.c.name.type),
    "provider_id": _owner.c.provider_id,
    "scope_type": _owner.c.scope_type,
    "scope_id": _owner.c.scope_id,
    "connection_id": _owner.c.id,
    "order_key": bindparam("order_key", type_=_events.c.order_key.type),
    "part": bindparam("part", type_=_events.c.part.type),
    "seq": _owner.c.seq,
    "payload": bindparam("payload", type_=JSONB()),
    "status": literal("pending"),
}
_ENQUEUE = (
    insert(_events)
    .from_select(list(_told), select(*_told.values()).select_from(_owner))
    .on_conflict_do_nothing()
    .returning(_events.c.event_id)
)
