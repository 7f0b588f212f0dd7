"""What is dead is shown at once, however often other deliveries came again."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import webhook_dead
from integrations.db.session import Sessions
from tests.webhook.given import CAUSE, add

REPEATS = """
INSERT INTO service_webhook_repeats (provider_id, channel, delivery_id, at)
SELECT 'github', 'app', CASE i WHEN 1 THEN 'mine' ELSE 'other-' || (i % 1000) END, now() - interval '1 day'
FROM generate_series(1, 20000) AS i
"""


async def test_repeats_of_others_are_not_walked_through(engine: AsyncEngine, sessions: Sessions) -> None:
    await add(engine, status="dead", age=timedelta(days=2), delivery_id="'mine'")
    async with engine.begin() as connection:
        await connection.execute(text(REPEATS))
        await connection.execute(text("ANALYZE service_webhook_repeats"))

    async with sessions.begin() as session:
        [item], count = await webhook_dead.items(session, CAUSE.fingerprint)
        explained = await session.execute(
            text(f"EXPLAIN {webhook_dead._ITEMS[False].text}"), {"cause": CAUSE.fingerprint}
        )
        plan = "\n".join(explained.scalars())

    assert (count, item.repeats) == (1, 1)
    assert "ix_service_webhook_repeats_delivery" in plan
    assert "ix_service_webhook_repeats_at" not in plan
