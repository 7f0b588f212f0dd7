"""Events of a host application, recorded in its own transaction: committed with the change they tell of, or not at all.

The platform delivers them from there: they appear in the owner's activity, and people are told of them by the
definitions that name them (docs/notifications.md). Nothing here commits, and Temporal is not asked.
"""

from typing import Any
from uuid import UUID

from integrations.db import outbox
from integrations.db.within import Within
from integrations.domain.connection import owner_of


async def record(
    within: Within, event_id: UUID, name: str, payload: dict[str, Any], *, connection_id: UUID, source: str
) -> bool:
    """Record an event about a connection. False when its id is there already, and then nothing is recorded twice.

    `within`: an SQLAlchemy AsyncSession or AsyncConnection, or asyncpg's connection inside of its `transaction()`; of
    the platform's database. `event_id`: the same one for the same event, whenever it is recorded again. `name`:
    `invoice.sent`. `payload`: JSON, without secrets. `source`: the program, as people know it.

    Holds the connection's row until the transaction ends: a refresh's outcome or a re-consent waits for it that long.
    Raises StopError, and names what is wrong, for an event that is incomplete and a connection that is unknown.
    """
    return await outbox.enqueue(within, connection_id, event_id, name, payload, source=source)


async def record_apart(
    within: Within,
    event_id: UUID,
    name: str,
    payload: dict[str, Any],
    *,
    provider_id: str,
    owner: str,
    source: str,
    order_key: str = "",
) -> bool:
    """Record an event that is about no connection, of an owner (`user:ID` or `org:ID`). As `record` in all else.

    Events with the same `order_key` are delivered in order; without one, those of an owner at a provider are. Raises
    StopError for an event that is incomplete, WrongUsageError for an owner that is none.
    """
    scope_type, scope_id = owner_of(owner)
    return await outbox.enqueue_apart(
        within,
        event_id,
        name,
        payload,
        provider_id=provider_id,
        scope_type=scope_type,
        scope_id=scope_id,
        order_key=order_key,
        source=source,
    )
