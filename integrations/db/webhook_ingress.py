"""The ledger of webhooks as the ingress writes it: one statement for all that come in meanwhile, straight to asyncpg.

This is the one path on which each delivery of every provider comes in; SQLAlchemy would take as long as Postgres.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import asyncpg
from sqlalchemy.engine import make_url

from integrations.db.together import Together
from integrations.db.webhook_wake import WOKEN
from integrations.domain.ids import new_event_id
from integrations.domain.webhook import DIGEST_WINDOW, Identity, Notice, Reaction, part_of

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Any]"
_SOON: Final = 2.0
"""Seconds, for a connection and for a statement, so that the server gives up by itself on what nobody waits for."""
_LARGE: Final = 64 * 2**10
"""Bytes from which on a body is sent to the database once it is known to be new, and by itself."""
_LANES: Final = 2
"""Statements at once for all others, each for its share of the partitions: a resource's changes stay in order."""
_MANY: Final = 100
"""Deliveries in one of them."""
_PATIENCE: Final = 2.5
"""Seconds for one, with its connection: a server that is frozen gives nothing up."""
_ITS_OWN: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
"""What the trouble of one row may be."""
Row: TypeAlias = tuple[Any, ...]
# Not before it is handled: until then whoever sends it again wakes it up.
_OUTLIVED: Final = """
status IN ('delivered', 'coalesced') AND greatest(received_at, settled_at) < now() - {window}::interval
"""
_KNOWN: Final = f"""
SELECT true FROM service_webhook_deliveries WHERE provider_id = $1 AND channel = $2 AND delivery_id = $3
  AND ($4::interval IS NULL OR NOT ({_OUTLIVED.format(window="$4")}))
"""  # noqa: S608 - ours
# What is known is left out first: ON CONFLICT would wait for whoever changes it, a dispatcher or a replay, and with it
# all others of this statement. By a scalar, so that one row after the other is looked up. Keys in the order of their
# index: two statements with the same ones wait for each other in one direction only. Places in the order in which they
# came: of a resource's changes the last is the last.
_INSERT: Final = """
INSERT INTO service_webhook_deliveries (id, provider_id, channel, delivery_id, identity, event, resource, account,
  headers, body, part, sent_at, due_at, reaction, notices, occurred_at, position) OVERRIDING SYSTEM VALUE
SELECT * FROM (
  SELECT id, provider_id, channel, delivery_id, identity, event, resource, account, headers, body, part, sent_at,
    now() + wait, reaction, notices, occurred_at, nextval('service_webhook_deliveries_position_seq') AS position
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::jsonb[], $10::bytea[], $11::smallint[], $12::timestamptz[], $13::interval[], $14::text[], $15::jsonb[],
    $16::timestamptz[]) AS new (id, provider_id, channel, delivery_id, identity, event, resource, account, headers,
    body, part, sent_at, wait, reaction, notices, occurred_at)
  WHERE (
    SELECT true FROM service_webhook_deliveries AS known WHERE known.provider_id = new.provider_id
      AND known.channel = new.channel AND known.delivery_id = new.delivery_id
  ) IS NULL
) AS arrived ORDER BY provider_id, channel, delivery_id, position
ON CONFLICT (provider_id, channel, delivery_id) DO NOTHING
RETURNING id
"""
# A body is its own id for a while only. The row is renamed first: the insert reads how many were.
_INSERT_DIGEST: Final = f"""
WITH outlived AS (
  UPDATE service_webhook_deliveries SET delivery_id = delivery_id || '@' || position
  WHERE provider_id = $2 AND channel = $3 AND delivery_id = $4 AND {_OUTLIVED.format(window="$17")}
  RETURNING 1
)
INSERT INTO service_webhook_deliveries (id, provider_id, channel, delivery_id, identity, event, resource, account,
  headers, body, part, sent_at, due_at, reaction, notices, occurred_at)
SELECT $1::uuid, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10::bytea, $11::smallint, $12::timestamptz,
  now() + $13::interval, $14, $15::jsonb, $16::timestamptz FROM (SELECT count(*) FROM outlived) AS first
ON CONFLICT (provider_id, channel, delivery_id) DO NOTHING
RETURNING true
"""  # noqa: S608 - ours
# Only ever inserted, so that a storm of duplicates waits for no row.
_REPEATED: Final = f"""
WITH again AS (
  INSERT INTO service_webhook_repeats (provider_id, channel, delivery_id) VALUES ($1, $2, $3)
), {WOKEN}
SELECT id FROM woken
"""  # noqa: S608 - ours


@dataclass(frozen=True, slots=True)
class Delivery:
    """A verified delivery, as it is written down."""

    provider_id: str
    channel: str
    delivery_id: str
    identity: Identity
    event: str
    resource: str
    """Empty, unless it is to be coalesced."""
    account: str
    headers: str
    """JSON, names in lower case."""
    body: bytes
    sent_at: datetime | None
    wait: timedelta
    """Until it is due."""
    reaction: Reaction = Reaction.EVENT
    notices: tuple[Notice, ...] = ()
    """Where it tells more than one thing."""
    occurred_at: datetime | None = None
    window: timedelta = DIGEST_WINDOW
    """In which a body without an id stands for one delivery, from when that was handled."""


class Deliveries:
    """Made by `opened`."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool
        self._lanes = [Together(self._insert_all, largest=_MANY) for _ in range(_LANES)]

    async def record(self, delivery: Delivery) -> bool:
        """Write it down, once. False for a duplicate: that is counted, and wakes up what had failed of it.

        Committed when this returns. Whoever calls says how long that may take; nobody knows what became of one that is
        cancelled, and the provider sends it again. Raises OSError, asyncpg.PostgresError or asyncpg.InterfaceError when
        the database is in trouble.
        """
        key = (delivery.provider_id, delivery.channel, delivery.delivery_id)
        part = part_of(*key, delivery.resource)
        row = (
            new_event_id(),
            *key,
            delivery.identity.value,
            delivery.event,
            delivery.resource,
            delivery.account,
            delivery.headers,
            delivery.body,
            part,
            delivery.sent_at,
            delivery.wait,
            delivery.reaction.value,
            json.dumps(delivery.notices) if delivery.notices else None,
            delivery.occurred_at,
        )
        plain = delivery.identity is Identity.ID and len(delivery.body) <= _LARGE
        fresh = await (self._lanes[part % _LANES](row) if plain else self._alone(delivery, row))
        if isinstance(fresh, asyncpg.PostgresError):
            raise fresh
        if not fresh:
            async with self._connection() as connection:
                await connection.execute(_REPEATED, *key)
        return fresh

    async def _alone(self, delivery: Delivery, row: Row) -> bool:
        async with self._connection() as connection:
            if await _is_known(connection, delivery):
                return False
            if delivery.identity is Identity.DIGEST:
                return bool(await connection.fetchval(_INSERT_DIGEST, *row, delivery.window))
            return (await _inserted(connection, [row]))[0]

    async def _insert_all(self, rows: Sequence[Row]) -> Sequence[bool | asyncpg.PostgresError]:
        """Which are new. What the database does not take of one keeps none of the others out."""
        async with asyncio.timeout(_PATIENCE), self._connection() as connection:
            try:
                return await _inserted(connection, rows)
            except _ITS_OWN:
                return [await _tried(connection, row) for row in rows]

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with self._pool.acquire() as connection:
            try:
                yield connection
            except asyncio.CancelledError:
                # A server that is frozen answers no wish to cancel either, and giving it back would wait for that.
                connection.terminate()
                raise


async def _is_known(connection: Connection, delivery: Delivery) -> bool:
    """Asked first of what is large: whoever sends that again and again does not have it carried each time."""
    if len(delivery.body) <= _LARGE:
        return False
    window = delivery.window if delivery.identity is Identity.DIGEST else None
    key = (delivery.provider_id, delivery.channel, delivery.delivery_id)
    return bool(await connection.fetchval(_KNOWN, *key, window))


async def _inserted(connection: Connection, rows: Sequence[Row]) -> list[bool]:
    new = {row["id"] for row in await connection.fetch(_INSERT, *zip(*rows, strict=True))}
    return [row[0] in new for row in rows]


async def _tried(connection: Connection, row: Row) -> bool | asyncpg.PostgresError:
    try:
        return (await _inserted(connection, [row]))[0]
    except _ITS_OWN as error:
        return error


@asynccontextmanager
async def opened(url: str, *, connections: int = 10) -> AsyncIterator[Deliveries]:
    """A pool of its own, so that neither a storm nor a page waits for the other. Nothing connects until it is used.

    `url` starts with postgresql+asyncpg:// and is read as SQLAlchemy does.
    """
    at = make_url(url)
    arguments = at.get_dialect()().create_connect_args(at)[1]
    pool = asyncpg.create_pool(
        **arguments,
        min_size=0,
        max_size=connections,
        timeout=_SOON,
        reset=_nothing,
        server_settings={
            "application_name": "runbook webhook ingress",
            "jit": "off",
            "statement_timeout": f"{_SOON * 1000:.0f}",
        },
    )
    async with pool:
        yield Deliveries(pool)


async def _nothing(_: object) -> None:
    """Each statement stands alone, and leaves nothing to be reset by a second round trip."""
