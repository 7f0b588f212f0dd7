"""Webhook deliveries in bulk, and what became of them."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db.session import Sessions
from integrations.db.surge_counts import Watched
from integrations.db.tables import Connection
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_ingress import Delivery
from integrations.db.webhook_tables import WebhookChannel, WebhookDelivery
from integrations.domain.ledger import Failure
from integrations.domain.webhook import Identity, Reaction
from tests.factories import stored
from tests.outbox.events import rows

KEY: Final = b"a key of the tests"
REACTIONS: Final = {
    "revoked": Reaction.REVOKED,
    "gone": Reaction.UNINSTALLED,
    "renew": Reaction.REAUTHORIZE,
    "lost": Reaction.MISSED,
}
WATCHED: Final = {"github": Watched("github", "GitHub", "correct it")}
CAUSE: Final = Failure.of("Raise", "the table is full")
# Ids as the ingress makes them (RFC 9562, version 7): of the time that they were received at.
_ADD: Final = """
INSERT INTO service_webhook_deliveries (id, {columns})
SELECT cast(lpad(to_hex(cast(extract(epoch FROM at) * 1000 AS bigint)), 12, '0')
  || '7' || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15) AS uuid), {values}
FROM generate_series(1, :count) AS i CROSS JOIN LATERAL (SELECT now() - cast(:age AS interval) AS at) AS made
ORDER BY i RETURNING id
"""
_DEFAULTS: Final = {
    "provider_id": "'github'",
    "channel": "'app'",
    "delivery_id": "'delivery-' || i || '-' || random()",
    "identity": "'id'",
    "event": "'push'",
    "occurred_at": "at",
    "headers": "'{}'::jsonb",
    "body": "'{}'::bytea",
    "part": "0",
    "received_at": "at",
    "due_at": "at",
}
_ENDED: Final = {
    "pending": {},
    "retrying": {"attempts": "1", "failed_at": "at", "lease_until": "now() + interval '1 minute'"},
    "dead": {"attempts": "8", "failed_at": "at", "history": "'[]'::jsonb"},
    "delivered": {"settled_at": "at", "handled_as": "'event'"},
    "coalesced": {"settled_at": "at", "folded_into": "gen_random_uuid()"},
}


async def add(
    engine: AsyncEngine,
    count: int = 1,
    status: str = "pending",
    *,
    age: timedelta = timedelta(),
    failure: Failure = CAUSE,
    **sql: str,
) -> list[UUID]:
    """So many deliveries, received so long ago. `sql`: other columns, as expressions of `i` (from 1) and `at`."""
    columns = _DEFAULTS | {"status": f"'{status}'"} | _ENDED[status]
    told: dict[str, Any] = {"count": count, "age": age}
    if status in {"retrying", "dead"}:
        columns |= {"cause": "cast(:cause AS text)", "fingerprint": ":fingerprint", "error": "cast(:error AS text)"}
        told |= {"cause": failure.cause, "fingerprint": failure.fingerprint, "error": failure.error}
    columns |= sql
    reaction = REACTIONS.get(columns["event"].strip("'"), Reaction.EVENT)
    columns = {"reaction": f"'{reaction}'"} | columns
    statement = text(
        _ADD.format(columns=", ".join(columns), values=", ".join(columns.values())).replace("::", "\\:\\:")
    )
    async with engine.begin() as connection:
        return list((await connection.execute(statement, told)).scalars())


async def statuses(engine: AsyncEngine) -> Mapping[str, int]:
    """How many deliveries there are in each state."""
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT status, count(*) FROM service_webhook_deliveries GROUP BY 1"))
        return {row.status: row.count for row in found}


async def delivery(sessions: Sessions, delivery_id: UUID) -> WebhookDelivery:
    return await stored(sessions, WebhookDelivery, delivery_id)


async def told(engine: AsyncEngine) -> list[Any]:
    """What the outbox holds of webhooks, in order."""
    return list(
        await rows(
            engine,
            "SELECT name, connection_id, order_key, seq, scope_id, payload ->> 'delivery' AS delivery, payload "
            "FROM service_lifecycle_outbox WHERE name LIKE 'webhook.%' ORDER BY id",
        )
    )


async def channel_of(sessions: Sessions, connection: Connection, channel: str = "app") -> None:
    """A channel whose deliveries are this connection's."""
    async with sessions.begin() as session:
        given = {"provider_id": "github", "channel": channel, "made_by": "test", "reason": "test"}
        session.add(WebhookChannel(connection_id=connection.id, **given))


def sent(delivery_id: str = "d1", *, resource: str = "", wait: timedelta = timedelta(), **more: str) -> Delivery:
    """A delivery as the ingress writes it down."""
    return Delivery(
        provider_id="github",
        channel="app",
        delivery_id=delivery_id,
        identity=Identity.ID,
        event=more.get("event", "push"),
        resource=resource,
        account=more.get("account", ""),
        headers="{}",
        body=b"{}",
        sent_at=None,
        wait=wait,
        reaction=REACTIONS.get(more.get("event", ""), Reaction.EVENT),
    )


async def drained(flow: Flow, connection: AsyncConnection, limit: int = 100) -> list[Any]:
    """Every partition, until nothing is due. What is left to workflows."""
    follow: list[Any] = []
    for part in range(16):
        while (moved := await flow.batch(connection, part, limit)).taken:
            follow += moved.failed
    return follow
