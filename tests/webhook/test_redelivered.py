"""A delivery that failed and is sent again: W5 and W24 of another platform's pitfalls."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from integrations.db import webhook_ingress, webhook_lost, webhook_trouble
from integrations.db.session import Sessions
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_handlers import Handling
from integrations.db.webhook_ingress import Deliveries
from integrations.db.webhook_tables import WebhookDelivery, WebhookRepeat
from integrations.domain.ledger import WHOLE_AFTER
from integrations.domain.webhook import LIFECYCLE_WINDOW, Identity, Left
from tests.factories import every
from tests.outbox.events import refused, rows
from tests.webhook.given import CAUSE, add, delivery, drained, sent, statuses, told

OUTBOX = "service_lifecycle_outbox"


async def failing(engine: AsyncEngine, owner: AsyncConnection, flow: Flow, ingress: Deliveries) -> UUID:
    """One that left the flow; its next attempt is far away."""
    assert await ingress.record(sent())
    async with refused(engine, "true", OUTBOX):
        [left] = await drained(flow, owner)
    assert isinstance(left, Left)
    return left.id


class TestBeforeItsNextAttempt:
    """W5: there it is answered 200, and nothing ever tries it again."""

    async def test_it_is_tried_at_once_and_handled(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow, ingress: Deliveries
    ) -> None:
        failed = await failing(engine, owner, flow, ingress)

        assert not await ingress.record(sent())
        assert await statuses(engine) == {"pending": 1}
        await drained(flow, owner)

        assert [row.delivery for row in await told(engine)] == [str(failed)]
        row = await delivery(sessions, failed)
        assert (row.status, row.woken, len(row.history or ())) == ("delivered", 1, 2)
        assert len(await every(sessions, WebhookRepeat)) == 1

    async def test_its_workflow_finds_it_settled_and_ends(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        owner: AsyncConnection,
        flow: Flow,
        ingress: Deliveries,
        handling: Handling,
    ) -> None:
        failed = await failing(engine, owner, flow, ingress)
        await ingress.record(sent())

        async with sessions.begin() as session:
            assert await webhook_trouble.deliver(session, failed, handling, 2) is None
            assert await webhook_trouble.bury(session, failed, 8) is None
        assert await statuses(engine) == {"pending": 1}

    async def test_it_fails_again_with_all_its_attempts_before_it(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow, ingress: Deliveries
    ) -> None:
        failed = await failing(engine, owner, flow, ingress)
        await ingress.record(sent())

        async with refused(engine, "true", OUTBOX):
            [again] = await drained(flow, owner)

        assert (again.id, again.key) == (failed, f"webhook:github:{failed}")
        row = await delivery(sessions, failed)
        assert (row.status, row.attempts, len(row.history or ())) == ("retrying", 1, 3)


class TestOneThatIsDead:
    async def test_is_tried_at_once_and_handled_once_however_often_it_comes(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow, ingress: Deliveries
    ) -> None:
        failed = await failing(engine, owner, flow, ingress)
        async with sessions.begin() as session:
            buried = await webhook_trouble.bury(session, failed, 8)
        assert buried is not None
        assert await statuses(engine) == {"dead": 1}

        came = await asyncio.gather(*(ingress.record(sent()) for _ in range(50)))
        await drained(flow, owner)

        assert not any(came)
        assert await statuses(engine) == {"delivered": 1}
        assert len(await told(engine)) == 1
        assert ((await delivery(sessions, failed)).woken, len(await every(sessions, WebhookRepeat))) == (1, 50)


class TestOneThatFailsAgain:
    async def test_has_a_workflow_of_its_own_and_is_not_buried_by_the_one_before(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        owner: AsyncConnection,
        flow: Flow,
        ingress: Deliveries,
        handling: Handling,
    ) -> None:
        """That has used up its attempts meanwhile, of which this one had a single one so far."""
        failed = await failing(engine, owner, flow, ingress)
        await ingress.record(sent())
        async with refused(engine, "true", OUTBOX):
            [again] = await drained(flow, owner)
        assert (again.id, again.woken) == (failed, 1)

        async with sessions.begin() as session:
            assert await webhook_trouble.deliver(session, failed, handling, 8, woken=0) is None
            await webhook_trouble.attempt_failed(session, failed, CAUSE, 8, woken=0)
            assert await webhook_trouble.bury(session, failed, 8, woken=0) is None

        row = await delivery(sessions, failed)
        assert (row.status, row.attempts) == ("retrying", 1)
        async with sessions.begin() as session:
            assert await webhook_trouble.deliver(session, failed, handling, 2, woken=1) is not None


class TestOneThatWasPassedOver:
    """Sent again while its last attempt held it, which then failed."""

    @pytest.mark.parametrize(("ago", "status"), [("1 second", "pending"), ("5 minutes", "dead")])
    async def test_is_tried_once_more(
        self, engine: AsyncEngine, sessions: Sessions, ingress: Deliveries, ago: str, status: str
    ) -> None:
        await add(engine, 1, "dead", delivery_id="'other'")
        [known] = await add(engine, 1, "dead", delivery_id="'d1'")
        async with engine.begin() as attempt:
            await attempt.execute(text("SELECT FROM service_webhook_deliveries FOR UPDATE"))
            assert not await ingress.record(sent())
        async with engine.begin() as run:
            await run.execute(text(f"UPDATE service_webhook_repeats SET at = now() - interval '{ago}'"))

        for _ in range(2):
            async with sessions.begin() as session:
                await webhook_lost.wake_swallowed(session)

        row = await delivery(sessions, known)
        assert (row.status, row.woken) == (status, 1 if status == "pending" else 0)
        assert (await statuses(engine))["dead"] == (1 if status == "pending" else 2)


class TestOneWithoutAnId:
    """Known by its body for a while, and for as long as it is not over with."""

    AGAIN = replace(sent("body:1", event="lost"), identity=Identity.DIGEST, window=LIFECYCLE_WINDOW)

    async def add(self, engine: AsyncEngine, status: str) -> UUID:
        [known] = await add(
            engine,
            status=status,
            age=LIFECYCLE_WINDOW + timedelta(minutes=1),
            delivery_id="'body:1'",
            identity="'digest'",
            event="'lost'",
        )
        return known

    @pytest.mark.parametrize("body", [b"{}", b" " * 100_000], ids=["small", "large"])
    @pytest.mark.parametrize("status", ["pending", "retrying", "dead"])
    async def test_is_the_same_delivery_until_it_is_handled(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        owner: AsyncConnection,
        flow: Flow,
        ingress: Deliveries,
        status: str,
        body: bytes,
    ) -> None:
        known = await self.add(engine, status)

        assert not await ingress.record(replace(self.AGAIN, body=body))
        await drained(flow, owner)
        # It is handled a moment ago, however long ago it came.
        assert not await ingress.record(replace(self.AGAIN, body=body))
        await drained(flow, owner)

        assert [row.delivery for row in await told(engine)] == [str(known)]
        row = await delivery(sessions, known)
        assert (row.status, row.woken) == ("delivered", 0 if status == "pending" else 1)
        assert len(await every(sessions, WebhookDelivery)) == 1

    @pytest.mark.parametrize("body", [b"{}", b" " * 100_000], ids=["small", "large"])
    @pytest.mark.parametrize("status", ["delivered", "coalesced"])
    async def test_is_news_once_that_is_over_for_long(
        self, engine: AsyncEngine, sessions: Sessions, ingress: Deliveries, status: str, body: bytes
    ) -> None:
        known = await self.add(engine, status)

        assert await ingress.record(replace(self.AGAIN, body=body))

        assert (await delivery(sessions, known)).status == status
        assert len(await every(sessions, WebhookDelivery)) == 2

    async def test_that_is_large_is_not_carried_again_while_it_waits(
        self, engine: AsyncEngine, database_url: str
    ) -> None:
        await self.add(engine, "dead")
        large = replace(self.AGAIN, body=b" " * 100_000)

        connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
        try:
            assert await webhook_ingress._is_known(connection, large)  # type: ignore[arg-type]
        finally:
            await connection.close()


class TestOneThatIsWell:
    @pytest.mark.parametrize("status", ["pending", "delivered", "coalesced"])
    async def test_changes_nothing(
        self, engine: AsyncEngine, sessions: Sessions, ingress: Deliveries, status: str
    ) -> None:
        [known] = await add(engine, status=status, delivery_id="'d1'")
        before = await delivery(sessions, known)

        assert not await ingress.record(sent())

        after = await delivery(sessions, known)
        assert [getattr(after, each.key) for each in WebhookDelivery.__table__.columns] == [
            getattr(before, each.key) for each in WebhookDelivery.__table__.columns
        ]


class TestWhileItIsInHand:
    async def test_the_ingress_waits_for_nobody_and_it_is_handled_once(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        owner: AsyncConnection,
        flow: Flow,
        ingress: Deliveries,
    ) -> None:
        failed = await failing(engine, owner, flow, ingress)
        began, ends = asyncio.Event(), asyncio.Event()

        async def slow(session: AsyncSession, found: Any, _replayed: bool) -> Any:
            began.set()
            await ends.wait()
            return await Handling({}, b"").react(session, found, replayed=False)

        async def attempt() -> None:
            async with sessions.begin() as session:
                await webhook_trouble.deliver(session, failed, Handling({}, b"", {"event": slow}), 2)

        attempting = asyncio.create_task(attempt())
        await began.wait()
        await asyncio.wait_for(ingress.record(sent()), 1)
        ends.set()
        await attempting

        assert await statuses(engine) == {"delivered": 1}
        assert len(await told(engine)) == 1


class TestOneThatTriedForAll:
    async def test_lets_the_others_go_on(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, ingress: Deliveries
    ) -> None:
        for number in range(WHOLE_AFTER + 5):
            await ingress.record(sent(f"d{number}"))
        async with refused(engine, "true", OUTBOX):
            await drained(flow, owner)
        [braking] = {
            row.item_id for row in await rows(engine, "SELECT * FROM service_ledger_holds WHERE released_at IS NULL")
        }
        [its] = await rows(engine, "SELECT delivery_id FROM service_webhook_deliveries WHERE id = :id", id=braking)

        await ingress.record(sent(its.delivery_id))

        assert not await rows(engine, "SELECT * FROM service_ledger_holds WHERE released_at IS NULL")


class TestASettleThatIsLost:
    """W24: there, what is lost between claim and settle keeps the key claimed for ten minutes."""

    async def test_leaves_nothing_claimed_and_nothing_done(
        self, engine: AsyncEngine, owner: AsyncConnection, flow: Flow, ingress: Deliveries, database_url: str
    ) -> None:
        await ingress.record(sent())
        ends = "PERFORM pg_terminate_backend(pg_backend_pid())"
        table = "service_webhook_deliveries"
        async with refused(engine, "NEW.status = 'delivered'", table, ends, "UPDATE"):
            with pytest.raises(DBAPIError):
                await drained(flow, owner)

        assert await statuses(engine) == {"pending": 1}
        assert await told(engine) == []
        assert not await ingress.record(sent())
        async with engine.connect() as other:
            assert (
                await other.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
            ).scalar() == 0
