from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import notification_alert
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.domain.notification_alert import WEBHOOKS
from tests.factories import every
from tests.webhook.given import CAUSE, add


async def raised(sessions: Sessions) -> bool:
    async with sessions.begin() as session:
        return await notification_alert.raised_of_webhooks(session)


async def test_operators_are_told_of_dead_webhooks_once_an_hour(engine: AsyncEngine, sessions: Sessions) -> None:
    assert not await raised(sessions)
    await add(engine, 3, "dead", age=timedelta(minutes=5))
    await add(engine, 1, "retrying")

    assert await raised(sessions)
    assert not await raised(sessions)

    [event] = await every(sessions, OutboxEvent)
    assert (event.name, event.scope_id) == (WEBHOOKS, "operators")
    assert event.payload["causes"] == [{"channel": "github/app", "cause": CAUSE.cause, "dead": 3}]
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE service_lifecycle_outbox SET occurred_at = now() - interval '61 min'"))
    # Nothing died since.
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE service_webhook_deliveries SET failed_at = now() - interval '2 h'"))
    assert not await raised(sessions)
