"""The only way into the outbox: within the transaction whose change the event tells of.

The table itself refuses what is incomplete, and its unique keys what is there already.
"""

import json
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Table, Text, bindparam, exists, literal, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB, insert

from integrations.db.ledger_tables import OrderKey, OutboxEvent
from integrations.db.tables import Connection
from integrations.db.within import Within, scalar
from integrations.domain.errors import StopError
from integrations.domain.ledger import partition_of
from integrations.domain.outbox import SOURCE, checked


async def enqueue(
    within: Within,
    connection_id: UUID,
    event_id: UUID,
    name: str,
    payload: dict[str, Any],
    *,
    source: str = SOURCE,
) -> bool:
    """Put an event about a connection into the caller's transaction. False when the event id is there already.

    Takes the connection's row lock, which the caller usually holds, and gives the event the connection's next number:
    whoever reads by `seq` reads in the order of commits. One statement: most steps tell something. Provider and owner
    are the connection's. `source` is the program that records it.

    Raises StopError for an event without an id or a name, with a payload that is no JSON, and when there is no such
    connection.
    """
    checked(event_id, name=name, source=source)
    order_key = str(connection_id)
    told = {"connection": connection_id, "order_key": order_key, "part": partition_of(order_key)}
    added = await scalar(within, _ABOUT_A_CONNECTION, told | _event(event_id, name, payload, source))
    if added is not None:
        return True
    if await scalar(within, _IS_THERE, {"event": event_id}) is None:
        raise StopError(f"event {event_id} ({name}) is about connection {connection_id}, and there is none")
    return False


async def enqueue_apart(
    within: Within,
    event_id: UUID,
    name: str,
    payload: dict[str, Any],
    *,
    provider_id: str,
    scope_type: str,
    scope_id: str,
    order_key: str = "",
    source: str = SOURCE,
) -> bool:
    """Put an event that is about no connection into the caller's transaction. False when it is there already.

    `order_key`: events with the same one stay in order, and wait for each other; without it those of one owner at one
    provider do. Raises StopError for an event without an id, a name, a provider or an owner, and for a payload that is
    no JSON.
    """
    checked(event_id, name=name, source=source, provider=provider_id, owner=scope_id)
    if scope_type not in {"user", "org"}:
        raise StopError(f"event {event_id} ({name}): an owner is a `user` or an `org`, and not {scope_type!r}")
    order_key = order_key or f"{provider_id}:{scope_type}:{scope_id}"
    told = {
        "provider": provider_id,
        "scope_type": scope_type,
        "scope_id": scope_id,
        "order_key": order_key,
        "part": partition_of(order_key),
    }
    return await scalar(within, _APART, told | _event(event_id, name, payload, source)) is not None


def _event(event_id: UUID, name: str, payload: dict[str, Any], source: str) -> dict[str, Any]:
    try:
        text = json.dumps(payload, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StopError(f"event {event_id} ({name}): its payload is no JSON: {error}") from None
    return {"event": event_id, "event_name": name, "payload": text, "source": source}


_connections, _keys = cast("Table", Connection.__table__), cast("Table", OrderKey.__table__)
_events = cast("Table", OutboxEvent.__table__)
# A repeated event must not use a number up: it is looked for before the number is taken.
_is_new: Final = ~exists().where(_events.c.event_id == bindparam("event", type_=_events.c.event_id.type))
_IS_THERE: Final = select(_events.c.event_id).where(_events.c.event_id == bindparam("event"))
_owner = (
    update(_connections)
    .where(_connections.c.id == bindparam("connection"))
    .where(_is_new)
    .values(seq=_connections.c.seq + 1)
    .returning(*(_connections.c[name] for name in ("id", "provider_id", "scope_type", "scope_id", "seq")))
    .cte("owner")
)
_key = (
    insert(_keys)
    .from_select(
        ["order_key", "seq"], select(bindparam("order_key", type_=_keys.c.order_key.type), literal(1)).where(_is_new)
    )
    .on_conflict_do_update(index_elements=[_keys.c.order_key], set_={"seq": _keys.c.seq + 1})
    .returning(_keys.c.seq)
    .cte("key")
)


def _insert(**of: Any) -> Any:
    columns: dict[str, Any] = {
        "event_id": bindparam("event", type_=_events.c.event_id.type),
        "name": bindparam("event_name", type_=_events.c.name.type),
        "order_key": bindparam("order_key", type_=_events.c.order_key.type),
        "part": bindparam("part", type_=_events.c.part.type),
        "source": bindparam("source", type_=_events.c.source.type),
        # As text: what asyncpg makes of JSON is up to whoever opened the connection.
        "payload": sql_cast(bindparam("payload", type_=Text()), JSONB()),
        "status": literal("pending"),
        **of,
    }
    source = of["seq"].table
    return (
        insert(_events)
        .from_select(list(columns), select(*columns.values()).select_from(source))
        .on_conflict_do_nothing()
        .returning(_events.c.event_id)
    )


_ABOUT_A_CONNECTION: Final = _insert(
    connection_id=_owner.c.id,
    seq=_owner.c.seq,
    **{name: _owner.c[name] for name in ("provider_id", "scope_type", "scope_id")},
)
_APART: Final = _insert(
    seq=_key.c.seq,
    provider_id=bindparam("provider", type_=_events.c.provider_id.type),
    scope_type=bindparam("scope_type", type_=_events.c.scope_type.type),
    scope_id=bindparam("scope_id", type_=_events.c.scope_id.type),
)
