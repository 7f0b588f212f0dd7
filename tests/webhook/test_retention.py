"""W29: nothing that is settled is kept for ever, and nothing that waits is forgotten."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio.testing import ActivityEnvironment

from activities.reconcile import Reconciled
from activities.retention import RetentionActivities
from integrations.db import webhook_audit, webhook_retention, webhook_secrets
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_ingress import Deliveries
from integrations.db.webhook_tables import WebhookChannel, WebhookDelivery, WebhookSecret
from integrations.domain import retention
from integrations.domain.ids import ids_before, new_event_id
from integrations.domain.retention import Kept
from tests.factories import every
from tests.webhook.given import add, delivery, drained, sent, statuses

OLD, YOUNG = timedelta(days=31), timedelta(days=29)
MONTH = timedelta(days=30)


async def forget(sessions: Sessions, **kept: timedelta) -> Reconciled:
    found = await ActivityEnvironment().run(RetentionActivities(sessions, Kept(**kept)).old)
    assert isinstance(found, Reconciled)
    return found


async def run(engine: AsyncEngine, sql: str, **told: Any) -> Sequence[Any]:
    async with engine.begin() as connection:
        found = await connection.execute(text(sql), told)
        return found.all() if found.returns_rows else ()


class TestDeliveries:
    async def test_that_are_settled_are_forgotten_in_batches_and_the_young_stay(
        self, engine: AsyncEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "BATCH", 3)
        await add(engine, 5, "delivered", age=OLD)
        await add(engine, 3, "coalesced", age=OLD)
        young = await add(engine, 2, "delivered", age=YOUNG)

        assert (await forget(sessions)).forgotten == 8

        assert {row.id for row in await every(sessions, WebhookDelivery)} == set(young)

    async def test_that_wait_are_never_forgotten(self, engine: AsyncEngine, sessions: Sessions) -> None:
        for status in ("pending", "retrying"):
            await add(engine, 1, status, age=timedelta(days=400))

        assert (await forget(sessions)).forgotten == 0

        assert await statuses(engine) == {"pending": 1, "retrying": 1}

    async def test_that_are_dead_wait_longer_for_a_person(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await add(engine, 1, "dead", age=timedelta(days=89))
        await add(engine, 1, "dead", age=timedelta(days=91))
        # Received long ago, and replayed in vain yesterday.
        await add(engine, 1, "dead", age=timedelta(days=91), failed_at="now() - interval '1 day'")

        assert (await forget(sessions)).forgotten == 1

        assert await statuses(engine) == {"dead": 2}

    async def test_that_were_folded_late_are_forgotten_with_what_they_were_folded_into(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow, ingress: Deliveries
    ) -> None:
        """Given up, and sent again a month later: what was handled in its place may not be gone before it."""
        [old] = await add(engine, 1, "dead", age=OLD, delivery_id="'old'", resource="'r'")
        await add(engine, 1, "delivered", age=OLD - timedelta(hours=1), resource="'r'")
        assert not await ingress.record(sent("old", resource="r"))
        await drained(flow, owner)
        assert (await delivery(sessions, old)).status == "coalesced"

        assert (await forget(sessions)).forgotten == 2

        assert await webhook_audit.illegal(sessions) == {}

    async def test_that_were_settled_lately_stay_however_old(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await add(engine, 1, "delivered", age=OLD, settled_at="now()")

        assert (await forget(sessions)).forgotten == 0

    @pytest.mark.parametrize("status", ["delivered", "dead"])
    async def test_are_found_by_their_ids_however_many_there_are(
        self, status: str, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        """Of 200,000 a batch of 10,000 took 70 ms; 12 ms where only 20,000 dead ones are old, and stay."""
        await add(engine, 20_000, status, age=YOUNG)
        await run(engine, "ANALYZE service_webhook_deliveries")
        statement = webhook_retention._SETTLED if status == "delivered" else webhook_retention._DEAD
        told = {"before": ids_before(datetime.now(UTC) - MONTH), "kept": MONTH, "most": 10_000}

        plan = "\n".join(row[0] for row in await run(engine, f"EXPLAIN (ANALYZE, BUFFERS) {statement.text}", **told))

        assert "Seq Scan" not in plan
        assert "pk_service_webhook_deliveries" in plan


class TestTheRest:
    async def test_repeats_and_refusals_go_as_deliveries_do(self, engine: AsyncEngine, sessions: Sessions) -> None:
        for age in (OLD, YOUNG):
            told = {"age": age}
            await run(
                engine,
                "INSERT INTO service_webhook_repeats (provider_id, channel, delivery_id, at)"
                " SELECT 'github', 'app', '1', now() - cast(:age AS interval) FROM generate_series(1, 4)",
                **told,
            )
            await run(
                engine,
                "INSERT INTO service_webhook_refusals (hour, provider_id, channel, reason, count)"
                " VALUES (date_trunc('hour', now() - cast(:age AS interval)), 'github', 'app', 'wrong signature', 9)",
                **told,
            )

        assert (await forget(sessions)).repeats == 5

        [[repeats, refusals]] = await run(
            engine,
            "SELECT (SELECT count(*) FROM service_webhook_repeats), (SELECT count(*) FROM service_webhook_refusals)",
        )
        assert (repeats, refusals) == (4, 1)

    async def test_a_secret_is_forgotten_when_its_overlap_ends(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault
    ) -> None:
        told = {"by": "ada", "reason": "a test"}
        async with sessions.begin() as session:
            session.add(
                WebhookChannel(provider_id="github", channel="app", connection_id=None, made_by="ada", reason="a test")
            )
            await session.flush()
            for secret in (b"first", b"second"):
                await webhook_secrets.add(session, vault, "github", "app", secret, overlap=timedelta(hours=1), **told)
        assert (await forget(sessions)).secrets == 0

        await run(engine, "UPDATE service_webhook_secrets SET ends_at = now() WHERE version = 1")

        assert (await forget(sessions)).secrets == 1
        rows = await every(sessions, WebhookSecret)
        assert {row.version: (row.state, row.sealed is None) for row in rows} == {
            1: ("retired", True),
            2: ("live", False),
        }


def test_an_id_is_before_a_moment_when_it_was_made_before_it() -> None:
    made = new_event_id()
    at = datetime.now(UTC)

    assert made < ids_before(at + timedelta(milliseconds=2))
    assert made > ids_before(at - timedelta(milliseconds=500))
