"""What deliveries do to connections, by rows; and that a late notice undoes nothing."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from integrations.db import automation, connections, credentials, reauth, webhook_channels, webhook_selftest
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Credential, GrantEvent, Transition
from integrations.db.vault import Vault
from integrations.db.webhook_flow import Flow
from integrations.db.webhook_tables import WebhookDelivery
from integrations.domain.automation import FailureMode
from integrations.domain.reauth import Detected, Detection, Opening, OpenLifecycle
from tests.factories import add_connection, add_credential, every, soon, stored
from tests.outbox.events import rows
from tests.shielded import put_up
from tests.webhook.given import add, channel_of, delivery, statuses, told

HOUR = timedelta(hours=1)
STALE = "stale: a newer credential is active, and refreshed to see"


async def connected(sessions: Sessions, vault: Vault, **changes: Any) -> Connection:
    """At github, with a credential that has been there for a day and is due tomorrow."""
    row = await add_connection(sessions, **({"provider_id": "github"} | changes))
    credential = await add_credential(sessions, vault, row.id, refresh_at=soon())
    async with sessions.begin() as session:
        (await session.get_one(Credential, credential.id)).activated_at = datetime.now(UTC) - timedelta(days=1)
    return row


async def status_of(sessions: Sessions, row: Connection) -> str:
    return (await stored(sessions, Connection, row.id)).status


async def due_now(sessions: Sessions) -> list[UUID]:
    now = datetime.now(UTC)
    return [row.connection_id for row in await every(sessions, Credential) if row.refresh_at and row.refresh_at < now]


class TestARevocation:
    async def test_is_a_detection_and_leads_to_the_lifecycle_that_asks_the_owner(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault)
        await connected(sessions, vault, account_id="acct_bob")
        [given] = await add(engine, event="'revoked'", account="'acct_ada'")

        moved = await flow.batch(owner, 0, 100)

        [found] = await every(sessions, GrantEvent)
        assert moved.failed == (Detection(detection_id=found.id),)
        assert (found.connection_id, found.kind, found.credential_version) == (mine.id, Detected.REVOKED, 1)
        assert found.evidence == {"delivery": str(given), "event": "revoked", "replay": False}
        assert (await delivery(sessions, given)).handled_as == "revoked: detected"
        wanted = OpenLifecycle(connection_id=mine.id, lifecycle_id=uuid4(), deadline=soon())
        async with sessions.begin() as session:
            opened = await reauth.open_lifecycle(session, vault, wanted, lambda _: [])
        assert opened.opening is Opening.OPENED
        assert await status_of(sessions, mine) == "pending_reauth"
        [moved_to] = await every(sessions, Transition)
        assert (moved_to.actor, moved_to.reason) == ("webhook", "github told so by a webhook: revoked")

    async def test_reaches_each_connection_of_the_account(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        two = [await connected(sessions, vault, scope_id=scope) for scope in ("acme", "globex")]
        [given] = await add(engine, event="'revoked'", account="'acct_ada'")

        moved = await flow.batch(owner, 0, 100)

        assert {row.connection_id for row in await every(sessions, GrantEvent)} == {row.id for row in two}
        assert len(moved.failed) == 2
        assert (await delivery(sessions, given)).handled_as == "revoked: detected (2)"

    @pytest.mark.parametrize("by", ["received_at", "sent_at"])
    async def test_that_is_older_than_the_credential_demotes_nothing_and_has_it_refreshed(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow, by: str
    ) -> None:
        mine = await connected(sessions, vault)
        old = {by: "now() - interval '2 days'"}
        [given] = await add(engine, event="'revoked'", account="'acct_ada'", **old)

        moved = await flow.batch(owner, 0, 100)

        assert moved.failed == ()
        assert await every(sessions, GrantEvent) == []
        assert (await delivery(sessions, given)).handled_as == f"revoked: {STALE}"
        assert await due_now(sessions) == [mine.id]

    async def test_that_was_signed_in_the_second_of_the_consent_is_believed(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await add_connection(sessions, provider_id="github")
        await add_credential(sessions, vault, mine.id)
        await add(engine, event="'revoked'", account="'acct_ada'", sent_at="date_trunc('second', now())")

        await flow.batch(owner, 0, 100)

        assert [row.connection_id for row in await every(sessions, GrantEvent)] == [mine.id]

    @pytest.mark.parametrize("status", ["pending_reauth", "disconnected"])
    async def test_of_what_is_blocked_already_is_nothing_new(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow, status: str
    ) -> None:
        await channel_of(sessions, await connected(sessions, vault, status=status))
        [given] = await add(engine, event="'revoked'")

        await flow.batch(owner, 0, 100)

        assert await every(sessions, GrantEvent) == []
        assert (await delivery(sessions, given)).handled_as == f"revoked: {status} already"

    async def test_of_an_account_that_nobody_has_is_the_operators(
        self, engine: AsyncEngine, sessions: Sessions, owner: AsyncConnection, flow: Flow
    ) -> None:
        [given] = await add(engine, event="'revoked'", account="'acct_eve'")

        await flow.batch(owner, 0, 100)

        assert (
            await delivery(sessions, given)
        ).handled_as == "revoked: no connection of its account, operators are told"


class TestAnUninstall:
    async def test_disconnects(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault)
        [given] = await add(engine, event="'gone'", account="'acct_ada'")

        await flow.batch(owner, 0, 100)

        assert await status_of(sessions, mine) == "disconnected"
        [credential] = await every(sessions, Credential)
        assert credential.state == "retired"
        [event] = await rows(engine, "SELECT name, connection_id FROM service_lifecycle_outbox")
        assert tuple(event) == ("connection.disconnected", mine.id)
        assert (await delivery(sessions, given)).handled_as == "uninstalled: disconnected"

    async def test_that_is_older_than_the_credential_disconnects_nothing(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault)
        [given] = await add(engine, event="'gone'", account="'acct_ada'", received_at="now() - interval '2 days'")

        await flow.batch(owner, 0, 100)

        assert await status_of(sessions, mine) == "active"
        assert (await delivery(sessions, given)).handled_as == f"uninstalled: {STALE}"

    async def test_waits_for_the_shield_and_keeps_nobody_waiting(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault)
        await put_up(sessions, "github")
        [given] = await add(engine, event="'gone'", account="'acct_ada'")
        await add(engine)

        await flow.batch(owner, 0, 100)

        assert await status_of(sessions, mine) == "active"
        assert await statuses(engine) == {"pending": 1, "delivered": 1}
        assert (await flow.batch(owner, 0, 100)).taken == 0
        row = await delivery(sessions, given)
        assert row.due_at > datetime.now(UTC) + timedelta(seconds=50)
        assert len((await waiting(sessions)).undone) == 1


async def waiting(sessions: Sessions) -> Any:
    async with sessions.begin() as session:
        return await automation.look(session)


class TestAReauthorization:
    async def test_has_the_connection_refreshed_and_the_host_application_told(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault)
        await connected(sessions, vault, account_id="acct_bob")
        await add(engine, event="'renew'", account="'acct_ada'")

        await flow.batch(owner, 0, 100)

        assert await due_now(sessions) == [mine.id]
        assert [(row.name, row.connection_id) for row in await told(engine)] == [("webhook.reauthorize", mine.id)]

    async def test_takes_its_locks_in_the_order_of_whoever_stores_a_credential(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault)
        await add(engine, event="'renew'", account="'acct_ada'")

        async with sessions.begin() as storing:
            await connections.lock(storing, mine.id)
            handling = asyncio.create_task(flow.batch(owner, 0, 100))
            async with asyncio.timeout(10):
                while not await rows(engine, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                    await asyncio.sleep(0.02)
            await credentials.retire_active(storing, mine.id)
        await handling

        assert await statuses(engine) == {"delivered": 1}


class TestAChannelOfAConnectionThatWasGivenUp:
    async def test_asks_for_no_refresh_and_tells_its_tenant_nothing(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        mine = await connected(sessions, vault, status="disconnected")
        await channel_of(sessions, mine)
        for event in ("push", "renew", "gone"):
            await add(engine, event=f"'{event}'", account="'acct_ada'")

        await flow.batch(owner, 0, 100)

        assert await due_now(sessions) == []
        events = [(row.name, row.connection_id, row.scope_id) for row in await told(engine)]
        assert sorted(events) == [
            ("webhook.reauthorize", None, "operators"),
            ("webhook.received", None, "operators"),
        ]
        words = {row.handled_as for row in await every(sessions, WebhookDelivery)}
        assert words == {"webhook.received", "webhook.reauthorize", "uninstalled: disconnected already"}
        async with sessions.begin() as session:
            assert [each.orphaned for each in await webhook_selftest.channels(session)] == [True]

    async def test_leaves_what_it_took_to_nobody_else_when_it_is_closed(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow
    ) -> None:
        """Whoever had its secret could name any account."""
        mine = await connected(sessions, vault, status="disconnected", account_id="mine")
        ada = await connected(sessions, vault)
        await channel_of(sessions, mine)
        [given] = await add(engine, event="'gone'", account="'acct_ada'")
        async with sessions.begin() as session:
            await webhook_channels.close(session, "github", "app", by="ada", reason="gone")

        await flow.batch(owner, 0, 100)

        assert await status_of(sessions, ada) == "active"
        assert "operators are told" in ((await delivery(sessions, given)).handled_as or "")


class TestWhatAPersonPaused:
    @pytest.mark.parametrize("event", ["push", "revoked", "gone"])
    async def test_waits_as_it_is_whatever_it_is(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, owner: AsyncConnection, flow: Flow, event: str
    ) -> None:
        await connected(sessions, vault)
        await add(engine, event=f"'{event}'", account="'acct_ada'")
        async with sessions.begin() as session:
            await automation.pause(session, [FailureMode.WEBHOOK], HOUR, by="ada", reason="look")

        assert (await flow.batch(owner, 0, 100)).taken == 0

        assert await statuses(engine) == {"pending": 1}
        assert await every(sessions, GrantEvent) == []
