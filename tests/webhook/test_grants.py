"""Is a grant really gone? What is believed of a notice, of whom, and what is done where it may speak of another one."""

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import automation, surge, tasks
from integrations.db.ledger_tables import ReplayItem
from integrations.db.session import Sessions
from integrations.db.tables import Connection, GrantEvent, OperatorTask
from integrations.db.vault import Vault
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_handlers import Handling
from integrations.db.webhook_status import page
from integrations.db.webhook_tables import WebhookDelivery
from integrations.domain.automation import FailureMode
from integrations.domain.surge import Limits
from tests.db.test_webhook_replay import drive
from tests.factories import every
from tests.outbox.plans import made, released
from tests.webhook.given import add, channel_of, delivery, drained, statuses, told
from tests.webhook.test_handlers import HOUR, connected, due_now, status_of

NOTHING_TO_REFRESH = {"refresh_at": None}


async def with_credential(engine: AsyncEngine, connection: Connection, **sql: str) -> None:
    """Changes of its credential, as expressions."""
    changes = ", ".join(f"{name} = {value}" for name, value in sql.items())
    async with engine.begin() as run:
        await run.execute(
            text(f"UPDATE service_credentials SET {changes} WHERE connection_id = :id"), {"id": connection.id}
        )


async def names_told(engine: AsyncEngine) -> list[tuple[str, UUID | None]]:
    return [(row.name, row.connection_id) for row in await told(engine)]


class TestANoticeOfAnEarlierConsent:
    """The application was taken away at noon, while we did not answer; consented again at one; tried again at two."""

    @pytest.mark.parametrize("event", ["revoked", "gone"])
    async def test_that_was_signed_just_now_ends_nothing(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow, event: str
    ) -> None:
        mine = await connected(sessions, vault)
        await with_credential(engine, mine, activated_at="now() - interval '1 hour'")
        happened = "now() - interval '2 hours'"
        [given] = await add(
            engine, event=f"'{event}'", account="'acct_ada'", occurred_at=happened, sent_at="now()", received_at="now()"
        )

        await drained(flow, owner)

        assert await status_of(sessions, mine) == "active"
        assert await every(sessions, GrantEvent) == []
        assert await due_now(sessions) == [mine.id]
        assert "stale" in ((await delivery(sessions, given)).handled_as or "")
        assert await names_told(engine) == [("webhook.doubtful", mine.id)]

    @pytest.mark.parametrize("event", ["revoked", "gone"])
    async def test_that_does_not_say_when_that_was_has_the_credential_tried(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow, event: str
    ) -> None:
        """Nor would one that somebody captured and sends again."""
        mine = await connected(sessions, vault)
        [given] = await add(engine, event=f"'{event}'", account="'acct_ada'", occurred_at="NULL", sent_at="now()")

        await drained(flow, owner)

        assert await status_of(sessions, mine) == "active"
        assert await every(sessions, GrantEvent) == []
        assert await due_now(sessions) == [mine.id]
        assert "doubtful" in ((await delivery(sessions, given)).handled_as or "")

    @pytest.mark.parametrize(("age", "ends"), [("1 day", "active"), ("4 days", "disconnected")])
    async def test_is_a_persons_to_look_at_where_nothing_can_be_tried(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        vault: Vault,
        owner: AsyncConnection,
        flow: Flow,
        age: str,
        ends: str,
    ) -> None:
        mine = await connected(sessions, vault)
        await with_credential(engine, mine, activated_at=f"now() - interval '{age}'", refresh_at="NULL")
        for _ in range(2):
            await add(engine, event="'gone'", account="'acct_ada'", occurred_at="NULL")

        await drained(flow, owner)

        assert await status_of(sessions, mine) == ends
        asked = [(row.connection_id, row.kind, row.status) for row in await every(sessions, OperatorTask)]
        assert asked == ([(mine.id, "doubted", "open")] if ends == "active" else [])

    async def test_by_a_clock_that_is_slow_is_looked_at_and_not_dropped(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault)
        await with_credential(engine, mine, activated_at="now() - interval '30 seconds'", refresh_at="NULL")
        await add(engine, event="'revoked'", account="'acct_ada'", occurred_at="now() - interval '60 seconds'")

        await drained(flow, owner)

        assert [row.kind for row in await every(sessions, OperatorTask)] == ["doubted"]
        assert await names_told(engine) == [("webhook.doubtful", mine.id)]


class TestAnotherAccounts:
    """Many providers send what is about any of an application's accounts to its one address."""

    @pytest.mark.parametrize("event", ["revoked", "gone"])
    async def test_end_is_not_that_of_the_channels_connection(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow, event: str
    ) -> None:
        mine = await connected(sessions, vault)
        await channel_of(sessions, mine)
        [given] = await add(engine, event=f"'{event}'", account="'acct_bob'")

        await drained(flow, owner)

        assert await status_of(sessions, mine) == "active"
        assert await every(sessions, GrantEvent) == []
        assert "operators are told" in ((await delivery(sessions, given)).handled_as or "")
        assert await names_told(engine) == [("webhook.unmatched", None)]

    async def test_event_is_not_told_to_the_channels_tenant(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault)
        await connected(sessions, vault, account_id="acct_bob", scope_id="other")
        await channel_of(sessions, mine)
        await add(engine, account="'acct_bob'")
        # An organisation's, say: nobody else's that we know, and the channel's owner had it sent here.
        await add(engine, account="'acct_org'")

        await drained(flow, owner)

        assert await names_told(engine) == [("webhook.received", None), ("webhook.received", mine.id)]

    async def test_uninstall_reaches_operators_where_nobody_has_that_account(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        await add(engine, event="'gone'", account="'acct_eve'")

        await drained(flow, owner)

        [event] = await told(engine)
        assert (event.name, event.scope_id, event.payload["reaction"]) == (
            "webhook.unmatched",
            "operators",
            "uninstalled",
        )


class TestADeliveryOfSeveralNotices:
    async def test_does_all_that_it_tells(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        ada, bob = [await connected(sessions, vault, account_id=each, scope_id=each) for each in ("ada", "bob")]
        notices = '[["uninstalled", "gone", "bob"], ["event", "push", "ada"], ["event", "pull", "ada"]]'
        [given] = await add(engine, event="'gone'", account="'bob'", notices=f"'{notices}'::jsonb")

        await drained(flow, owner)

        assert await status_of(sessions, bob) == "disconnected"
        assert await status_of(sessions, ada) == "active"
        events = await told(engine)
        assert {(row.name, row.connection_id, row.payload["event"]) for row in events} == {
            ("webhook.received", ada.id, "push"),
            ("webhook.received", ada.id, "pull"),
        }
        assert {row.delivery for row in events} == {str(given)}
        row = await delivery(sessions, given)
        assert (row.status, row.handled_as) == (
            "delivered",
            "uninstalled: disconnected; webhook.received of 1 connection",
        )

    async def test_of_events_only_is_one_of_a_set(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        for each in ("ada", "bob"):
            await connected(sessions, vault, account_id=each, scope_id=each)
        notices = '[["event", "push", "ada"], ["event", "push", "bob"]]'
        await add(engine, 20, notices=f"'{notices}'::jsonb")
        await add(engine, 20)

        assert (await flow.batch(owner, 0, 100)).taken == 40

        assert await statuses(engine) == {"delivered": 40}
        assert len(await told(engine)) == 60

    async def test_does_nothing_twice_while_one_of_them_waits(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        """Each minute it is handled anew; a refresh a minute would spend what the provider allows."""
        ends, renewed, doubted, asked = [
            await connected(sessions, vault, account_id=each, scope_id=each) for each in ("a", "b", "c", "d")
        ]
        for each, refresh_at in ((doubted, "now() + interval '1 day'"), (asked, "NULL")):
            await with_credential(engine, each, activated_at="now()", refresh_at=refresh_at)
        notices = '[["uninstalled","gone","c"],["uninstalled","gone","d"],["uninstalled","gone","a"],'
        notices += '["reauthorize","renew","b"],["event","push","b"]]'
        happened = "now() - interval '2 minutes'"
        [given] = await add(engine, event="'gone'", account="'a'", notices=f"'{notices}'::jsonb", occurred_at=happened)
        async with sessions.begin() as session:
            await automation.pause(session, [FailureMode.REAUTH], HOUR, by="ada", reason="look")
        await drained(flow, owner)
        assert sorted(await due_now(sessions)) == sorted([renewed.id, doubted.id])
        [task] = await every(sessions, OperatorTask)
        before = await names_told(engine)
        async with sessions.begin() as session:
            await tasks.close_by_hand(session, task.id, by="ada", reason="it works")
        for each in (renewed, doubted):
            await with_credential(engine, each, refresh_at="now() + interval '1 day'")

        async with engine.begin() as run:
            await run.execute(text("UPDATE service_webhook_deliveries SET due_at = now()"))
        await drained(flow, owner)

        assert await statuses(engine) == {"pending": 1}
        assert await due_now(sessions) == []
        assert [(row.connection_id, row.status) for row in await every(sessions, OperatorTask)] == [
            (asked.id, "closed")
        ]
        assert await names_told(engine) == before
        async with sessions.begin() as session:
            await automation.resume(session, [FailureMode.REAUTH], by="ada", reason="seen")
        async with engine.begin() as run:
            await run.execute(text("UPDATE service_webhook_deliveries SET due_at = now()"))
        await drained(flow, owner)
        assert await status_of(sessions, ends) == "disconnected"
        assert "looked at before" in ((await delivery(sessions, given)).handled_as or "")


class TestTooManyToBeTrue:
    async def test_are_held_back_as_one_surge_and_operators_are_called_once(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        its = [await connected(sessions, vault, account_id=f"a{n}", scope_id=f"a{n}") for n in range(9)]
        for n in range(9):
            await add(engine, event="'gone'", account=f"'a{n}'")

        await drained(flow, owner)

        ended = [row.id for row in its if await status_of(sessions, row) == "disconnected"]
        assert len(ended) == Limits().connections - 1
        assert await statuses(engine) == {"delivered": 4, "pending": 5}
        assert [(row.provider_id, row.kind) for row in await every(sessions, OperatorTask)] == [("github", "surge")]
        [held] = (await page(sessions)).held_back or []
        assert (held.provider, held.reaction, held.count) == ("github", "uninstalled", 5)
        assert held.why.startswith("held back, one of a surge")
        rows = await every(sessions, WebhookDelivery)
        assert {bool(row.waits) for row in rows if row.status == "pending"} == {True}
        assert {row.waits for row in rows if row.status == "delivered"} == {None}

        async with sessions.begin() as session:
            await surge.release(session, "github", Limits(), by="ada", reason="they are")
        async with engine.begin() as run:
            await run.execute(text("UPDATE service_webhook_deliveries SET due_at = now() WHERE status = 'pending'"))
        await drained(flow, owner)

        assert await statuses(engine) == {"delivered": 9}
        assert {row.waits for row in await every(sessions, WebhookDelivery)} == {None}

    async def test_of_a_replay_are_left_and_operators_are_called_too(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, handling: Handling
    ) -> None:
        for n in range(9):
            await connected(sessions, vault, account_id=f"a{n}", scope_id=f"a{n}")
            await add(engine, 1, "dead", event="'gone'", account=f"'a{n}'")
        plan = await made(sessions, "webhooks")
        await released(sessions, plan)

        assert await drive(owner, handling.handle) == 9

        assert await statuses(engine) == {"delivered": 4, "dead": 5}
        assert [(row.provider_id, row.kind) for row in await every(sessions, OperatorTask)] == [("github", "surge")]
        whys = [line.why or "" for line in await every(sessions, ReplayItem) if line.outcome]
        assert [why.partition(":")[0] for why in whys] == ["not tried"] * 5
        assert all("one of a surge" in why for why in whys)

    async def test_revocations_are_held_back_in_the_same_way(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        for n in range(9):
            await connected(sessions, vault, account_id=f"a{n}", scope_id=f"a{n}")
        await add(engine, 9, event="'revoked'", account="'a' || (i - 1)")

        await drained(flow, owner)

        assert len(await every(sessions, GrantEvent)) == Limits().connections - 1
        assert await statuses(engine) == {"delivered": 4, "pending": 5}


class TestAReplay:
    @pytest.mark.parametrize("event", ["revoked", "gone"])
    async def test_of_a_doubtful_notice_says_that_it_is_one(
        self,
        engine: AsyncEngine,
        sessions: Sessions,
        vault: Vault,
        owner: AsyncConnection,
        handling: Handling,
        event: str,
    ) -> None:
        await connected(sessions, vault)
        happened = "now() - interval '9 days'"
        await add(engine, 1, "dead", event=f"'{event}'", account="'acct_ada'", occurred_at=happened)
        await released(sessions, await made(sessions, "webhooks"))

        await drive(owner, handling.handle)

        assert [(row.name, row.payload["replay"]) for row in await told(engine)] == [("webhook.doubtful", True)]

    async def test_of_a_revocation_is_evidence_of_what_it_detects(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, handling: Handling
    ) -> None:
        await connected(sessions, vault)
        [given] = await add(engine, 1, "dead", event="'revoked'", account="'acct_ada'")
        await released(sessions, await made(sessions, "webhooks"))

        await drive(owner, handling.handle)

        [found] = await every(sessions, GrantEvent)
        assert found.evidence == {"delivery": str(given), "event": "revoked", "replay": True}
