"""A database that is slow or frozen: the provider is told to come again before it hangs up."""

import os
import signal
import time

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import webhook_ingress
from tests.outbox.events import rows
from tests.web.vendor import Vendor
from web import ingress

SERVING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'runbook webhook ingress'"


@pytest.mark.parametrize("table", ["service_webhook_deliveries", "service_webhook_channels"])
async def test_a_provider_hears_in_time_that_the_database_is_slow(
    table: str, vendor: Vendor, engine: AsyncEngine
) -> None:
    """Slack hangs up after three seconds."""
    began = time.monotonic()
    async with engine.begin() as connection:
        await connection.execute(text(f"LOCK TABLE {table}"))
        answer = await vendor.send()
        took = time.monotonic() - began

    assert answer.status_code == 503
    assert 1.5 < took < ingress._PATIENCE + 2  # a slow machine's
    assert ingress._PATIENCE < 3
    assert (await vendor.send()).status_code == 200


async def test_a_provider_hears_in_time_that_the_database_is_frozen(
    vendor: Vendor, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a wish to cancel is answered: its connection is given up, and the next one is another."""
    for module in (ingress, webhook_ingress):
        monkeypatch.setattr(module, "_PATIENCE", 0.5)
    await vendor.send("before")
    [backend] = (await rows(engine, SERVING))[0]
    os.kill(backend, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = await vendor.send("meanwhile")
        took = time.monotonic() - began
        again = await vendor.send("meanwhile")
    finally:
        os.kill(backend, signal.SIGCONT)

    assert (answer.status_code, again.status_code) == (503, 200)
    assert took < 2
