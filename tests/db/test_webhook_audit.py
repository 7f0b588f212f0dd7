from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import webhook_audit
from integrations.db.session import Sessions
from tests.webhook.given import add

HOUR = timedelta(hours=1)
FOLDED = """
UPDATE service_webhook_deliveries SET status = 'coalesced', settled_at = now(), folded_into = :into WHERE id = :id
"""


async def execute(engine: AsyncEngine, sql: str, **told: object) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(sql), told)


async def found_illegal(sessions: Sessions) -> list[str]:
    found = await webhook_audit.illegal(sessions)
    assert found is not None
    return list(found)


async def found_stuck(sessions: Sessions) -> list[str]:
    found = await webhook_audit.stuck(sessions)
    assert found is not None
    return [what for what, count in found.items() if count]


async def test_a_ledger_as_our_code_makes_it_has_nothing_illegal_or_stuck(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    for status in ("pending", "retrying", "dead", "delivered"):
        await add(engine, 2, status)
    [first, last] = await add(engine, 2, "delivered", resource="'r'")
    await execute(engine, FOLDED, id=first, into=last)

    assert await found_illegal(sessions) == []
    assert await found_stuck(sessions) == []
    assert await webhook_audit.refused(sessions) == ""


@pytest.mark.parametrize(
    ("status", "change", "what"),
    [
        ("coalesced", "part = 1", "coalesced into a delivery that is not there"),
        ("delivered", "settled_at = NULL", "settled without saying when"),
        ("delivered", "handled_as = NULL", "delivered without saying by what"),
        ("delivered", "lease_until = now()", "with a lease, and not retrying"),
        ("pending", "settled_at = now()", "pending and settled"),
        ("dead", "failed_at = NULL", "retrying or dead without an attempt"),
        ("pending", "identity = 'digest'", "known by their body's digest, with an id that is none"),
    ],
)
async def test_each_state_that_cannot_be_is_found(
    status: str, change: str, what: str, engine: AsyncEngine, sessions: Sessions
) -> None:
    await add(engine, 1, status)
    await execute(engine, f"UPDATE service_webhook_deliveries SET {change}")

    assert await found_illegal(sessions) == [what]


@pytest.mark.parametrize("wrong", ["earlier", "of another resource"])
async def test_what_was_folded_the_wrong_way_is_found(wrong: str, engine: AsyncEngine, sessions: Sessions) -> None:
    [first, last] = await add(engine, 2, "delivered", resource="'r' || i" if wrong != "earlier" else "'r'")
    into, id_ = (first, last) if wrong == "earlier" else (last, first)
    await execute(engine, FOLDED, id=id_, into=into)

    assert await found_illegal(sessions) == ["coalesced into a delivery of another resource, or an earlier one"]


@pytest.mark.parametrize(
    ("status", "change", "what"),
    [
        ("pending", "due_at = now() - interval '16 min'", "pending deliveries are due"),
        ("pending", "due_at = 'infinity', received_at = now() - interval '16 min'", "pending deliveries are held back"),
        ("pending", "waits = 'a surge', received_at = now() - interval '61 min'", "pending deliveries came more than"),
        ("retrying", "lease_until = NULL", "retrying deliveries have no lease"),
        ("retrying", "lease_until = now() - interval '16 min'", "retrying deliveries are past their lease"),
    ],
)
async def test_each_claim_that_nobody_takes_on_is_found(
    status: str, change: str, what: str, engine: AsyncEngine, sessions: Sessions
) -> None:
    await add(engine, 1, status)
    await execute(engine, f"UPDATE service_webhook_deliveries SET {change}")

    [found] = await found_stuck(sessions)
    assert found.startswith(what)


@pytest.mark.parametrize(
    ("released", "what"), [("NULL", "holds wait for a delivery"), ("now() - interval '16 min'", "holds were released")]
)
async def test_a_hold_of_nothing_is_found(released: str, what: str, engine: AsyncEngine, sessions: Sessions) -> None:
    await execute(
        engine,
        "INSERT INTO service_ledger_holds (ledger, part, destination, order_key, item_id, since, released_at)"
        f" VALUES ('webhooks', 0, 'event', '*', gen_random_uuid(), now() - interval '1 hour', {released})",
    )

    [found] = await found_stuck(sessions)
    assert found.startswith(what)


async def test_a_days_storage_is_measured_by_provider(engine: AsyncEngine, sessions: Sessions) -> None:
    for days in (1, 4):
        await add(engine, 100, "delivered", age=timedelta(days=days), body="convert_to(repeat('x', 300), 'UTF8')")
    await add(engine, 10, "delivered", age=HOUR, provider_id="'slack'")
    await add(engine, 10, "delivered", age=timedelta(days=9), provider_id="'stripe'")

    found = await webhook_audit.storage(sessions, datetime.now(UTC))

    assert found is not None
    assert set(found) == {"github", "slack"}
    github_bytes, github_rows = found["github"]
    assert github_rows == pytest.approx(50, abs=1)
    assert github_bytes == pytest.approx(50 * 1025, rel=0.05)
    assert found["slack"][1] == 10
