"""Events in the outbox, in bulk, and what was made of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

# Connections are only keys here: a thousand rows of them would say nothing more.
_ADD: Final = """
INSERT INTO service_lifecycle_outbox
  (event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, part, seq, payload, occurred_at)
SELECT gen_random_uuid(), :name, 'simulator', 'org', 'acme', c, c::text, cast(:part AS int),
  (SELECT count(*) FROM service_lifecycle_outbox WHERE order_key = c::text) + (i - 1) / :connections + 1,
  jsonb_build_object('n', i), now() - cast(:age AS interval)
FROM (SELECT i, md5(((i - 1) % :connections + :first)::text)::uuid AS c FROM generate_series(1, :count) AS i) AS made
ORDER BY i RETURNING event_id, order_key
"""


async def add_events(engine: AsyncEngine, count: int = 1, **more: Any) -> list[UUID]:
    """Events in turn for so many `connections`, which begin with the number `first`, in one partition."""
    async with engine.begin() as connection:
        return await added(connection, count, **more)


async def added(connection: AsyncConnection, count: int, **more: Any) -> list[UUID]:
    """As `add_events`, not committed yet."""
    told = {"name": "connection.tested", "connections": 1, "part": 0, "first": 0, "age": timedelta()}
    return list((await connection.execute(text(_ADD), {"count": count, **told, **more})).scalars())


async def rows(engine: AsyncEngine, sql: str, **told: Any) -> Sequence[Any]:
    async with engine.begin() as connection:
        return (await connection.execute(text(sql), told)).all()


async def statuses(engine: AsyncEngine) -> dict[str, int]:
    """How many events there are in each state."""
    found = await rows(engine, "SELECT status, count(*) FROM service_lifecycle_outbox GROUP BY status")
    return {row.status: row.count for row in found}


async def pairs(engine: AsyncEngine) -> dict[tuple[str, str], int]:
    """How many projections there are in each state, by projector."""
    found = await rows(engine, "SELECT projector, status, count(*) FROM service_projector_ledger GROUP BY 1, 2")
    return {(projector, status): count for projector, status, count in found}


async def projected(engine: AsyncEngine, table: str = "service_activity_entries") -> list[tuple[str, int]]:
    """Order key and number of each projection, in the order of projection."""
    return [(key, seq) for key, seq in await rows(engine, f"SELECT order_key, seq FROM {table} ORDER BY id")]


@asynccontextmanager
async def refused(
    engine: AsyncEngine,
    what: str,
    table: str = "service_activity_entries",
    does: str = "RAISE 'it is refused'",
    on: str = "INSERT",
) -> AsyncIterator[None]:
    """A database that does something when a row is written for which `what` holds, such as `NEW.name = 'x'`."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN IF {what} THEN {does}; END IF; RETURN NEW; END $$"
            )
        )
        await connection.execute(
            text(f"CREATE TRIGGER refused BEFORE {on} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    try:
        yield
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("DROP FUNCTION refuse CASCADE"))
