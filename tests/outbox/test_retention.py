"""W29: no event that is delivered everywhere is kept for ever, and none that waits is forgotten."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.testing import ActivityEnvironment

from activities.reconcile import Reconciled
from activities.retention import RetentionActivities
from integrations.db import outbox_counts, outbox_retention
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.outbox_retention import Slice
from integrations.db.session import Sessions
from integrations.domain import retention
from integrations.domain.retention import Kept
from tests.factories import every
from tests.outbox.events import add_events, pairs
from tests.outbox.plans import die

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
