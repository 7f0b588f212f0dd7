"""Webhooks end to end, by commands: a channel, its self-test through the running web app, a replay by the worker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import WorkflowExecutionStatus

from integrations.db import connections
from integrations.db.vault import Vault
from integrations.db.webhook_status import page
from integrations.domain.ledger import PARTITIONS
from tests.factories import add_channel
from tests.starters.conftest import Account, Runbook
from tests.starters.running import Running
from tests.web.vendor import SECRET, Vendor
from tests.webhook.given import CAUSE, add


@pytest_asyncio.fixture
async def engine(running: Running) -> AsyncIterator[AsyncEngine]:
    """The stack's, without the webhooks of other tests."""
    async with running.platform.sessions() as session:
        engine: Any = session.bind
    await _emptied(engine)
    yield engine
    await _emptied(engine)


async def _emptied(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for table in ("deliveries", "repeats", "refusals", "secrets", "channels"):
            await connection.execute(text(f"DELETE FROM service_webhook_{table}"))


async def test_a_new_channel_tests_itself_and_holds(connected: Account, engine: AsyncEngine, runbook: Runbook) -> None:
    made = runbook("connections", "webhook-secret", str(connected.id), "--channel", "app", "--generate")
    assert made.code == 0, made.err

    tested = runbook("webhooks", "self-test", "simulator", "app")

    assert (tested.code, tested.out) == (
        0,
        "✔ tampered: refused (401)\n✔ stale: refused (401)\n✔ valid: accepted\n✔ duplicate: duplicate\n",
    )
    handled: list[Any] = []
    async with asyncio.timeout(20):
        while not handled:
            async with engine.begin() as connection:
                sql = "SELECT event, handled_as FROM service_webhook_deliveries WHERE status = 'delivered'"
                handled = [tuple(row) for row in await connection.execute(text(sql))]
            await asyncio.sleep(0.1)
    assert handled == [("runbook-self-test", "self test")]
    audited = runbook("webhooks", "audit", "--json")
    assert (audited.code, audited.json["findings"]) == (0, [])
    assert [each["address"].rpartition("/webhooks/")[2] for each in runbook("webhooks", "channels", "--json").json] == [
        "simulator/app"
    ]


@pytest.mark.usefixtures("engine")
async def test_a_signed_revocation_opens_the_lifecycle_and_a_forged_one_nothing(connected: Account) -> None:
    platform, settings = connected.running.platform, connected.running.stack.settings
    await add_channel(platform.sessions, Vault(settings.keys), secret=SECRET)
    async with platform.sessions.begin() as session:
        account = (await connections.find(session, connected.id)).account_id
    at = datetime.now(UTC).isoformat()
    body = {"type": "grant.revoked", "timestamp": at, "data": {"account_id": account}}

    async with httpx.AsyncClient(base_url=settings.web_url, trust_env=False) as http:
        forged = await Vendor(http).send("msg_forged", body, secret=b"whsec_c29tZWJvZHkgZWxzZSdz")
        assert (forged.status_code, await connected.status()) == (401, "active")
        signed = [await Vendor(http).send("msg_revoked", body) for _ in range(2)]
    await connected.until("pending_reauth")

    assert [answer.json()["status"] for answer in signed] == ["accepted", "duplicate"]
    await connected.link()
    lifecycle = platform.temporal.get_workflow_handle(f"reauth:simulator:{connected.id}")
    assert (await lifecycle.describe()).status is WorkflowExecutionStatus.RUNNING


@pytest.mark.usefixtures("engine")
def test_of_no_channel_says_so(runbook: Runbook) -> None:
    found = runbook("webhooks", "self-test", "simulator", "nobody")

    assert found.code == 1
    assert "there is no channel simulator/nobody (runbook webhooks channels lists them)" in found.err


async def test_what_is_dead_is_replayed_once_and_its_event_says_so(engine: AsyncEngine, runbook: Runbook) -> None:
    await add(engine, 12, "dead", provider_id="'simulator'", event="'note.changed'", part="i % 16")
    assert runbook("webhooks", "status").code == 1

    outcome = runbook("webhooks", "replay", "--cause", CAUSE.fingerprint, "--yes", "--json")

    assert outcome.code == 0, outcome.err
    assert (outcome.json["delivered"], outcome.json["dead"], outcome.json["skipped"]) == (12, 0, 0)
    async with engine.begin() as connection:
        sql = "SELECT payload FROM service_lifecycle_outbox WHERE payload ->> 'event' = 'note.changed'"
        events = [row.payload for row in await connection.execute(text(sql))]
    assert len(events) == 12
    assert all(event["replay"] is True for event in events)
    assert runbook("webhooks", "dead").out == "Nothing is dead.\n"


async def test_dispatchers_are_as_many_as_is_wished_and_share_the_partitions(
    running: Running, engine: AsyncEngine, runbook: Runbook
) -> None:
    more = runbook("webhooks", "scale", "3", "--by", "ada", "--reason", "monday", RUNBOOK_DATABASE_CORES="1000")
    try:
        await _dealt(running, 3)
        told = runbook("webhooks", "status").out
        beyond = runbook("webhooks", "scale", "17")
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM service_dispatch_scales WHERE ledger = 'webhooks'"))
        await _dealt(running, 2)

    assert (more.code, beyond.code) == (0, 2)
    assert "3 dispatchers in place of 2." in more.out
    assert "2           2, 5, 8, 11, 14" in more.out
    assert "3, wished by ada" in told
    assert "so 1 to 16" in beyond.err


async def _dealt(running: Running, dispatchers: int) -> None:
    async with asyncio.timeout(60):
        while True:
            found = await page(running.platform.sessions)
            parts = [part for each in found.dispatchers if each.owner for part in each.owner.parts]
            if len(found.dispatchers) == dispatchers and sorted(parts) == list(range(PARTITIONS)):
                return
            await asyncio.sleep(0.1)
