import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db.session import Sessions
from integrations.db.webhook_probe import probe


async def count(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM service_webhook_deliveries"))).scalar_one())


async def test_a_probe_leaves_nothing_behind_however_many_come_at_once(sessions: Sessions, engine: AsyncEngine) -> None:
    await asyncio.gather(*(probe(sessions) for _ in range(10)))

    assert await count(engine) == 0


async def test_a_ledger_that_takes_no_row_fails_the_probe(sessions: Sessions, engine: AsyncEngine) -> None:
    rule = "ALTER TABLE service_webhook_deliveries {} CONSTRAINT refuses"
    async with engine.begin() as connection:
        await connection.execute(text(rule.format("ADD") + " CHECK (false) NOT VALID"))
    try:
        with pytest.raises(DBAPIError, match="refuses"):
            await probe(sessions)
    finally:
        async with engine.begin() as connection:
            await connection.execute(text(rule.format("DROP")))


async def test_a_ledger_that_is_locked_fails_the_probe_soon(sessions: Sessions, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE service_webhook_deliveries"))
        began = time.monotonic()

        with pytest.raises(DBAPIError, match="statement timeout"):
            await probe(sessions)

    assert time.monotonic() - began < 8
