"""W29: nothing that is settled is kept for ever, and nothing that waits is forgotten."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.testing import ActivityEnvironment

from activities.reconcile import Reconciled
from activities.retention import RetentionActivities
from integrations.db import outbox_counts, outbox_retention, webhook_retention, webhook_secrets
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.outbox_retention import Slice
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_tables import WebhookChannel, WebhookDelivery, WebhookSecret
from integrations.domain import retention
from integrations.domain.ids import ids_before, new_event_id
from integrations.domain.retention import Kept
from tests.factories import every
from tests.outbox.events import add_events, pairs
from tests.outbox.plans import die
from tests.webhook.given import add, statuses

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


class TestEvents:
    async def settled(self, engine: AsyncEngine, count: int, age: timedelta, status: str = "expanded") -> list[Any]:
        """Delivered to both projectors so long ago, with what they made."""
        ids = await add_events(engine, count, age=age)
        await die(engine, ids, projectors=())
        told = {"ids": ids, "age": age, "status": status}
        await run(
            engine,
            "UPDATE service_projector_ledger SET settled_at = now() - cast(:age AS interval)"
            " WHERE event_id = ANY(:ids)",
            **told,
        )
        for table in ("service_activity_entries", "service_notification_requests"):
            extra = (
                ("status", "cast(:status AS text)")
                if "requests" in table
                else (
                    "provider_id, scope_type, scope_id, source, payload, occurred_at",
                    "provider_id, scope_type, scope_id, source, payload, occurred_at",
                )
            )
            await run(
                engine,
                f"INSERT INTO {table} (event_id, name, order_key, seq, {extra[0]})"
                f" SELECT event_id, name, order_key, seq, {extra[1]}"
                " FROM service_lifecycle_outbox WHERE event_id = ANY(:ids)",
                **{name: told[name] for name in ("ids", "status") if f":{name}" in f":ids{extra[1]}"},
            )
        return ids

    async def message(self, engine: AsyncEngine, event_id: Any, status: str) -> None:
        await run(
            engine,
            "INSERT INTO service_notification_dispatches"
            " (id, event_id, definition, recipient, channel, part, status, expires_at)"
            " VALUES (:id, :event_id, 'invitation', 'org:acme', 'email', 0, :status, now())",
            id=uuid4(),
            event_id=event_id,
            status=status,
        )

    async def test_that_are_delivered_go_with_their_ledger_rows_and_messages(
        self, engine: AsyncEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "BATCH", 3)
        old = await self.settled(engine, 7, OLD)
        young = await self.settled(engine, 2, YOUNG)
        await self.message(engine, old[0], "delivered")

        assert (await forget(sessions)).events == 7

        assert {row.event_id for row in await every(sessions, OutboxEvent)} == set(young)
        assert await pairs(engine) == {("activity", "delivered"): 2, ("notification", "delivered"): 2}
        [left] = await run(
            engine,
            "SELECT (SELECT count(*) FROM service_notification_requests),"
            " (SELECT count(*) FROM service_notification_dispatches), (SELECT count(*) FROM service_activity_entries)",
        )
        assert tuple(left) == (2, 0, 9)

    async def test_leave_ledger_and_tables_in_agreement(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await self.settled(engine, 7, OLD)
        await self.settled(engine, 2, YOUNG)
        await forget(sessions)
        found = await outbox_counts.counts(sessions)
        assert found is not None
        assert not [each for each in found.projections if each.differs]
        assert await outbox_counts.differences(sessions) == []

        await run(engine, "DELETE FROM service_projector_ledger WHERE projector = 'activity'")

        found = await outbox_counts.counts(sessions)
        assert found is not None
        assert [each.projector for each in found.projections if each.differs] == ["activity"]
        assert len(await outbox_counts.differences(sessions) or []) == 4

    @pytest.mark.parametrize("status", ["pending", "retrying", "dead", "nobody"])
    async def test_of_which_a_message_waits_stay(self, status: str, engine: AsyncEngine, sessions: Sessions) -> None:
        [event_id] = await self.settled(engine, 1, OLD)
        await self.message(engine, event_id, status)

        assert (await forget(sessions)).events == 0

    async def test_that_are_not_expanded_yet_or_dead_somewhere_stay(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        await self.settled(engine, 1, OLD, "pending")
        await die(engine, await add_events(engine, 1, first=1, age=OLD), projectors=["activity"])
        await add_events(engine, 1, first=2, age=OLD)

        assert (await forget(sessions)).events == 0

        assert len(await every(sessions, OutboxEvent)) == 3

    async def test_that_were_delivered_by_a_late_replay_stay_for_their_time(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        await self.settled(engine, 1, OLD)
        await run(engine, "UPDATE service_projector_ledger SET settled_at = now() WHERE projector = 'activity'")

        assert (await forget(sessions)).events == 0

    async def test_are_looked_for_slice_by_slice_until_the_whole_table_was(
        self, engine: AsyncEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_retention, "_BLOCKS", 2)
        await add_events(engine, 1000, age=OLD)
        async with sessions.begin() as session:
            seen = await outbox_retention.slice_of_now(session)
            [[size]] = await session.execute(text("SELECT pg_relation_size('service_lifecycle_outbox') / 8192"))
        assert size > 10
        assert seen.first % 2 == 0
        assert seen.first < size
        assert seen.last - seen.first == 2

    async def test_are_read_by_their_blocks(self, engine: AsyncEngine) -> None:
        """Of 200,000 events a slice of 2,000 blocks took 440 ms with 6,500 old ones in it, and 30 ms without any."""
        await add_events(engine, 5000, connections=100, age=YOUNG)
        await run(engine, "UPDATE service_lifecycle_outbox SET status = 'delivered'")
        await run(engine, "ANALYZE service_lifecycle_outbox")
        told = {"first": "(0,0)", "last": "(10,0)", "kept": MONTH, "most": 10_000, "ledger": "x"}

        plan = await run(engine, f"EXPLAIN {outbox_retention._FORGET.text}", **told)

        lines = "\n".join(row[0] for row in plan)
        assert "Tid Range Scan on service_lifecycle_outbox" in lines
        assert "Seq Scan on service_lifecycle_outbox" not in lines

    async def test_outside_of_the_slice_are_left_for_another_minute(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        await self.settled(engine, 3, OLD)
        async with sessions.begin() as session:
            assert await outbox_retention.forget(session, Slice(1000, 2000), MONTH, 10) == 0
            assert await outbox_retention.forget(session, Slice(0, 1000), MONTH, 10) == 3


def test_an_id_is_before_a_moment_when_it_was_made_before_it() -> None:
    made = new_event_id()
    at = datetime.now(UTC)

    assert made < ids_before(at + timedelta(milliseconds=2))
    assert made > ids_before(at - timedelta(milliseconds=500))
