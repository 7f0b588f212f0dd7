from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import outbox_counts, outbox_dead, samples, scale
from integrations.db.dedicated import dedicated, take
from integrations.db.in_time import in_time
from integrations.db.ledger_tables import Dispatcher, Hold, LedgerSample, ProjectorLedger, Watermark
from integrations.db.outbox_flow import Flow
from integrations.db.outbox_status import page
from integrations.db.projectors import PROJECTORS
from integrations.db.session import Sessions
from integrations.domain.errors import StopError
from integrations.domain.outbox_page import Page
from tests.factories import every
from tests.outbox.events import add_events, rows

NAMES = ("activity", "notification")


def ago(**time: float) -> datetime:
    return datetime.now(UTC) - timedelta(**time)


async def add(sessions: Sessions, *made: Any) -> None:
    async with sessions.begin() as session:
        session.add_all(made)


def item(event_id: UUID, position: int, status: str, projector: str = "activity", **more: Any) -> ProjectorLedger:
    return ProjectorLedger(
        event_id=event_id, projector=projector, position=position, status=status, part=0, order_key="k", **more
    )


async def settled(engine: AsyncEngine, event_id: UUID, status: str) -> None:
    await rows(
        engine,
        "UPDATE service_lifecycle_outbox SET status = :s WHERE event_id = :id RETURNING 1",
        s=status,
        id=event_id,
    )


async def drain(url: str, part: int = 0) -> None:
    async with dedicated(url, "test") as connection:
        await take(connection, "outbox", [part])
        while (await Flow(PROJECTORS).batch(connection, part, 1000)).taken:
            pass


def of(found: Page, projector: str) -> dict[str, Any]:
    [each] = [each for each in found.projections if each.projector == projector]
    return each.model_dump()


class TestThePage:
    async def test_of_an_empty_outbox_has_no_lag_and_all_projectors(self, sessions: Sessions) -> None:
        found = await page(sessions)

        assert (found.pending, found.lag, found.rates, found.wish) == (0, timedelta(), None, 4)
        assert [each.projector for each in found.projections] == list(NAMES)
        assert (len(found.dispatchers), found.drained, found.unowned) == (4, False, list(range(16)))

    async def test_takes_the_lag_from_the_oldest_pending_event_of_all_partitions(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        await add_events(engine, 3, part=2)
        await add_events(engine, 2, part=9, first=10, age=timedelta(minutes=5))
        [over] = await add_events(engine, part=4, first=20, age=timedelta(days=1))
        await settled(engine, over, "delivered")

        found = await page(sessions)

        assert (found.pending, sorted(found.oldest)) == (5, [2, 9])
        assert timedelta(minutes=5) <= found.lag < timedelta(minutes=6)
        assert [(each.position, each.behind) for each in found.projections] == [(0, 5), (0, 5)]

    async def test_finds_the_oldest_without_reading_a_table(self, engine: AsyncEngine) -> None:
        """By the plan: what is delivered, however much, is not met."""
        from integrations.db.outbox_status import _OLDEST

        await add_events(engine, 2000, connections=100)
        await rows(engine, "UPDATE service_lifecycle_outbox SET status = 'delivered' WHERE id > 20 RETURNING 1")
        async with engine.begin() as connection:
            await connection.execute(text("ANALYZE service_lifecycle_outbox"))

        plan = "\n".join(row[0] for row in await rows(engine, f"EXPLAIN {_OLDEST.text}"))

        assert "using ix_service_lifecycle_outbox_pending" in plan
        assert "Index Cond: (part = " in plan
        assert "Seq Scan" not in plan

    async def test_counts_what_is_in_trouble_by_projector_and_since_when(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        ids = await add_events(engine, 5, age=timedelta(minutes=30))
        for event_id, status in zip(ids, ("delivered", "retrying", "held", "dead", "pending"), strict=True):
            await settled(engine, event_id, status)
        await add(
            sessions,
            item(ids[0], 1, "delivered"),
            item(ids[1], 2, "retrying", cause="Raise: no", lease_until=ago(minutes=-1)),
            item(ids[2], 3, "held"),
            item(ids[3], 4, "dead", failed_at=ago(days=2)),
            Hold(ledger="outbox", part=0, destination="activity", order_key="k", item_id=ids[1], since=ago(hours=1)),
            Watermark(ledger="outbox", part=0, destination="activity", position=1, items=1, at=ago(minutes=20)),
        )

        found = await page(sessions)
        told = of(found, "activity")

        assert (told["held"], told["retrying"], told["dead"]) == (1, 1, 1)
        assert (told["cause"], told["whole"]) == ("Raise: no", False)
        assert timedelta(hours=1) <= found.at - told["waiting_since"] < timedelta(hours=2)
        assert timedelta(days=2) <= found.at - told["dead_since"] < timedelta(days=3)
        assert (told["position"], told["behind"]) == (1, 3)
        assert timedelta(minutes=30) <= found.at - told["oldest"] < timedelta(hours=1)
        other = of(found, "notification")
        assert (other["held"], other["position"], other["behind"]) == (0, 4, 1)

    async def test_tells_a_projector_that_fails_as_a_whole(self, engine: AsyncEngine, sessions: Sessions) -> None:
        [event_id] = await add_events(engine)
        await add(
            sessions,
            item(event_id, 1, "retrying"),
            Hold(ledger="outbox", part=0, destination="activity", order_key="k", item_id=event_id),
            Hold(ledger="outbox", part=5, destination="activity", order_key="*", item_id=event_id),
        )

        found = await page(sessions)

        assert (of(found, "activity")["whole"], of(found, "notification")["whole"]) == (True, False)

    async def test_is_caught_up_when_everything_is_projected(
        self, engine: AsyncEngine, sessions: Sessions, database_url: str
    ) -> None:
        await add_events(engine, 30)
        await drain(database_url)

        told = of(await page(sessions), "activity")

        assert (told["position"], told["behind"], told["oldest"]) == (30, 0, None)

    async def test_counts_what_is_stuck(self, engine: AsyncEngine, sessions: Sessions) -> None:
        ids = await add_events(engine, 3)
        await add(
            sessions,
            item(ids[0], 1, "retrying", lease_until=ago(seconds=1)),
            item(ids[1], 2, "retrying", lease_until=ago(seconds=-60)),
            *(
                Hold(
                    ledger="outbox",
                    part=part,
                    destination="activity",
                    order_key="k",
                    item_id=ids[0],
                    released_at=released,
                )
                for part, released in ((0, None), (1, ago(seconds=10)), (2, ago(seconds=40)))
            ),
        )

        stuck = (await page(sessions)).stuck

        assert (stuck.retrying, stuck.holds) == (1, 1)


class TestTheDispatchers:
    async def test_own_what_the_databases_locks_show_and_not_what_they_say(
        self, sessions: Sessions, database_url: str
    ) -> None:
        await add(
            sessions,
            *(
                Dispatcher(
                    ledger="outbox",
                    number=number,
                    worker=f"w{number}",
                    parts=[1, 5, 9, 13],
                    running=number != 7,
                    batch=1000,
                    started_at=ago(hours=1),
                    seen_at=ago(seconds=3),
                )
                for number in (0, 1, 6, 7)
            ),
        )
        async with (
            dedicated(database_url, "runbook outbox dispatcher 1") as first,
            dedicated(database_url, "psql") as stranger,
        ):
            await take(first, "outbox", [1, 5])
            await take(stranger, "outbox", [2])
            found = await page(sessions)

        assert [(each.number, each.wished) for each in found.dispatchers] == [
            (0, True),
            (1, True),
            (2, True),
            (3, True),
            (6, False),
        ]
        assert [each.owner.parts if each.owner else [] for each in found.dispatchers] == [[], [1, 5], [], [], []]
        assert [(each.application, each.parts) for each in found.strangers] == [("psql", [2])]
        assert found.unowned == [part for part in range(16) if part not in {1, 2, 5}]
        assert found.drained


class TestTheRates:
    async def test_are_what_came_and_went_since_about_a_minute(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await add_events(engine, 600)
        dispatcher = {"ledger": "outbox", "worker": "w", "parts": [], "running": True, "batch": 1}
        await add(
            sessions,
            LedgerSample(ledger="outbox", at=ago(minutes=10), arrived=0, settled=0),
            LedgerSample(ledger="outbox", at=ago(seconds=60), arrived=480, settled=30),
            LedgerSample(ledger="outbox", at=ago(seconds=20), arrived=590, settled=80),
            *(
                Dispatcher(**dispatcher, number=number, items=45, started_at=ago(), seen_at=ago())
                for number in range(2)
            ),
        )

        async with sessions.begin() as session:
            found = await samples.rates(session)

        assert found is not None
        assert found.seconds == pytest.approx(60, abs=2)
        assert (found.arrived, found.settled) == (pytest.approx(2, rel=0.05), pytest.approx(1, rel=0.05))

    async def test_need_a_sample_that_is_old_enough(self, engine: AsyncEngine, sessions: Sessions) -> None:
        async with engine.connect() as connection:
            await samples.take(connection)
            await connection.commit()

        async with sessions.begin() as session:
            assert await samples.rates(session) is None

    async def test_are_taken_and_forgotten_after_an_hour(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await add_events(engine, 7)
        await add(sessions, LedgerSample(ledger="outbox", at=ago(minutes=61), arrived=0, settled=0))

        async with engine.connect() as connection:
            await samples.take(connection)
            await connection.commit()

        [kept] = await every(sessions, LedgerSample)
        assert (kept.arrived, kept.settled) == (7, 0)


class TestReconciling:
    async def test_finds_ledger_and_tables_equal_after_a_drain(
        self, engine: AsyncEngine, sessions: Sessions, database_url: str
    ) -> None:
        await add_events(engine, 50)
        await drain(database_url)
        await add_events(engine, 3, part=1, first=9)

        found = await outbox_counts.counts(sessions)

        assert found is not None
        assert [(each.projector, each.delivered, each.made, each.differs) for each in found.projections] == [
            (name, 50, 50, False) for name in NAMES
        ]
        assert await outbox_counts.differences(sessions) == []

    async def test_finds_a_row_that_is_gone_one_too_many_and_an_event_that_nobody_knows(
        self, engine: AsyncEngine, sessions: Sessions, database_url: str
    ) -> None:
        gone, twice, lost, *_ = await add_events(engine, 50)
        await drain(database_url)
        await rows(engine, "DELETE FROM service_activity_entries WHERE event_id = :id RETURNING 1", id=gone)
        for event_id in (twice, lost):
            sql = "DELETE FROM service_projector_ledger WHERE event_id = :id AND projector = 'notification' RETURNING 1"
            await rows(engine, sql, id=event_id)
        await rows(engine, "DELETE FROM service_notification_requests WHERE event_id = :id RETURNING 1", id=lost)

        found = await outbox_counts.counts(sessions)
        events = await outbox_counts.differences(sessions)

        assert found is not None
        assert [(each.delivered, each.made, each.unknown) for each in found.projections] == [(50, 49, 0), (48, 49, 2)]
        assert events is not None
        assert {(each.projector, each.event_id, each.what) for each in events} == {
            ("activity", gone, "delivered, and not in service_activity_entries"),
            ("notification", twice, "in service_notification_requests, and not delivered"),
            ("notification", twice, "delivered, and not in the ledger"),
            ("notification", lost, "delivered, and not in the ledger"),
        }

    async def test_does_not_hold_against_a_projector_what_was_settled_before_it_came(
        self, engine: AsyncEngine, sessions: Sessions, database_url: str
    ) -> None:
        await add_events(engine, 5)
        await drain(database_url)
        [event_id] = await add_events(engine, first=9)
        await settled(engine, event_id, "delivered")
        await add(sessions, *(item(event_id, 6, "delivered", name) for name in (*NAMES, "newest")))

        found = await outbox_counts.counts(sessions)

        assert found is not None
        assert {each.projector: (each.unknown, each.made) for each in found.projections} == {
            "activity": (0, 5),
            "notification": (0, 5),
            "newest": (0, None),
        }

    async def test_gives_up_after_the_time_that_a_person_waits(self, sessions: Sessions) -> None:
        assert await in_time(sessions, text("SELECT pg_sleep(20)"), seconds=0.05) is None
        assert await in_time(sessions, text("SELECT 1")) == [(1,)]


class TestTheDead:
    async def test_are_grouped_by_projector_and_cause(self, engine: AsyncEngine, sessions: Sessions) -> None:
        ids = await add_events(engine, 4)
        await rows(engine, "UPDATE service_lifecycle_outbox SET provider_id = 'github' WHERE id = 2 RETURNING 1")
        why = {"cause": "Raise: no", "fingerprint": "aaa"}
        await add(
            sessions,
            item(ids[0], 1, "dead", failed_at=ago(days=2), **why),
            item(ids[1], 2, "dead", failed_at=ago(days=1), **why),
            item(ids[2], 3, "dead", "notification", cause="Check: …", fingerprint="bbb"),
            item(ids[3], 4, "retrying", cause="Raise: still", fingerprint="ccc"),
        )

        async with sessions.begin() as session:
            first, second = await outbox_dead.groups(session)
            [retried] = await outbox_dead.groups(session, "retrying")

        assert (first.projector, first.cause, first.fingerprint, first.count) == ("activity", "Raise: no", "aaa", 2)
        assert (first.providers, first.example) == (["github", "simulator"], ids[0])
        assert first.oldest is not None
        assert first.newest is not None
        assert first.newest - first.oldest > timedelta(hours=23)
        assert (second.projector, second.count) == ("notification", 1)
        assert retried.fingerprint == "ccc"

    async def test_are_listed_by_fingerprint_or_by_how_their_cause_begins(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        ids = await add_events(engine, 52)
        why = {"cause": "Raise: 100%", "fingerprint": "aaa", "error": "Raise: no", "attempts": 12}
        history = [{"at": "2026-11-25T03:00:00", "attempt": 1, "error": "no"}]
        await add(sessions, *(item(each, n, "dead", history=history, **why) for n, each in enumerate(ids, 1)))

        async with sessions.begin() as session:
            items, total = await outbox_dead.items(session, "aaa")
            begins = await outbox_dead.items(session, "Raise: 1")
            nothing = await outbox_dead.items(session, "%")

        assert (total, len(items), begins[1], nothing) == (52, 50, 52, ([], 0))
        assert (items[0].event_id, items[0].attempts, items[0].history) == (ids[0], 12, history)


class TestTheWish:
    async def test_is_the_default_until_somebody_has_one(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            seen = await scale.wish(session, "outbox")
            await scale.keep(session, seen, 8, by="ada", reason="monday")

        async with sessions.begin() as session:
            assert await scale.wish(session, "outbox") == scale.Wish(
                ledger="outbox", dispatchers=8, by="ada", reason="monday"
            )
            assert await scale.wish(session, "webhooks") == scale.Wish(ledger="webhooks", dispatchers=2)

    async def test_is_not_kept_over_one_that_was_not_seen(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            seen = await scale.wish(session, "outbox")
            await scale.keep(session, seen, 8, by="ada", reason="monday")

        with pytest.raises(StopError, match=r"meanwhile ada wished for 8 dispatchers \(monday\)"):
            async with sessions.begin() as session:
                await scale.keep(session, seen, 2, by="bob", reason="quiet")
