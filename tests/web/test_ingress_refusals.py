"""Requests that leave no delivery behind: refused ones, handshakes, and how both are counted."""

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_tables import WebhookDelivery, WebhookRefusal
from integrations.domain.webhook import Reason
from integrations.providers import catalog
from integrations.providers.webhooks import signing
from integrations.providers.webhooks.greeting import verify_token
from tests.factories import add_channel, every
from tests.web.conftest import Site
from tests.web.vendor import Vendor
from web.refusals import Refusals

ACCEPTED, REJECTED = ({"status": word} for word in ("accepted", "rejected"))


class TestARefusal:
    async def test_has_no_row_and_is_counted(self, vendor: Vendor, sessions: Sessions, vault: Vault) -> None:
        async with sessions.begin() as session:
            await session.execute(
                text(
                    "INSERT INTO service_webhook_channels (provider_id, channel, made_by, reason) "
                    "VALUES ('simulator', 'unsigned', 'a', 'b')"
                )
            )
        answers = [
            await vendor.send(secret=b"whsec_" + b"A" * 32),
            await vendor.send(at=datetime.now(UTC) - timedelta(minutes=6)),
            await vendor.send(at=datetime.now(UTC) + timedelta(minutes=6)),
            await vendor.send(channel="unsigned"),
            await vendor.send(channel="nobody"),
            await vendor.browser.post("/webhooks/nobody/app"),
            await vendor.browser.post("/webhooks/simulator/app"),
            await vendor.browser.put("/webhooks/simulator/app"),
            await vendor.browser.get("/webhooks/simulator/app"),
            await vendor.send(body=bytes(2**20 + 1)),
        ]
        await asyncio.sleep(1.3)

        assert [answer.status_code for answer in answers] == [401, 401, 401, 401, 404, 404, 401, 405, 405, 413]
        assert all(answer.json() == REJECTED for answer in answers)
        assert await every(sessions, WebhookDelivery) == []
        counted = {
            (row.provider_id, row.channel, row.reason): row.count for row in await every(sessions, WebhookRefusal)
        }
        assert counted == {
            ("simulator", "app", Reason.WRONG): 1,
            ("simulator", "app", Reason.STALE): 2,
            ("simulator", "unsigned", Reason.UNSIGNED): 1,
            ("simulator", "(unknown)", Reason.UNKNOWN): 1,
            ("(unknown)", "(unknown)", Reason.UNKNOWN): 1,
            ("simulator", "app", Reason.MISSING): 1,
            ("simulator", "app", Reason.METHOD): 2,
            ("simulator", "app", Reason.LARGE): 1,
        }

    async def test_of_a_wrong_method_names_the_right_ones(
        self, vendor: Vendor, sessions: Sessions, vault: Vault
    ) -> None:
        await add_channel(sessions, vault, "facebook", secret=b"app secret")

        assert (await vendor.browser.put("/webhooks/simulator/app")).headers["allow"] == "POST"
        assert (await vendor.browser.put("/webhooks/facebook/app")).headers["allow"] == "POST, GET"

    async def test_is_none_while_the_database_is_in_trouble(
        self, vendor: Vendor, sessions: Sessions, engine: AsyncEngine
    ) -> None:
        """Then the provider is asked to come again."""
        await vendor.send("before")
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE service_webhook_deliveries RENAME TO gone"))
        try:
            answer = await vendor.send("meanwhile")
        finally:
            async with engine.begin() as connection:
                await connection.execute(text("ALTER TABLE gone RENAME TO service_webhook_deliveries"))
        again = await vendor.send("meanwhile")

        assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
        assert int(answer.headers["retry-after"]) > 0
        assert again.json() == ACCEPTED


class TestCounting:
    async def test_goes_on_while_the_database_is_in_trouble(self, sessions: Sessions, engine: AsyncEngine) -> None:
        refusals = Refusals(sessions)
        refusals.add("simulator", "app", Reason.WRONG)
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE service_webhook_refusals RENAME TO gone"))
        try:
            await refusals.flush()
        finally:
            async with engine.begin() as connection:
                await connection.execute(text("ALTER TABLE gone RENAME TO service_webhook_refusals"))
        refusals.add("simulator", "app", Reason.WRONG)

        await asyncio.gather(*(each.close() for each in (refusals, Refusals(sessions))))

        assert [row.count for row in await every(sessions, WebhookRefusal)] == [2]

    async def test_adds_what_several_processes_counted(self, sessions: Sessions) -> None:
        several = [Refusals(sessions) for _ in range(8)]
        for refusals in several:
            for reason in Reason:
                refusals.add("simulator", "app", reason)

        await asyncio.gather(*(refusals.close() for refusals in several))

        assert [row.count for row in await every(sessions, WebhookRefusal)] == [8] * len(Reason)


class TestAnAddressThatIsSigned:
    async def test_is_the_one_that_the_provider_was_told(
        self, vendor: Vendor, site: Site, sessions: Sessions, vault: Vault
    ) -> None:
        """HubSpot signs it, query included."""
        await add_channel(sessions, vault, "hubspot", secret=b"hubspot secret")
        webhook = catalog.load(host="http://127.0.0.1:9").provider("hubspot").webhook
        assert webhook is not None
        answers = []
        for told in (
            f"{site.url}/webhooks/hubspot/app?a=%3A1&b",
            "https://elsewhere.example/webhooks/hubspot/app?a=%3A1&b",
        ):
            signed = signing.request(webhook, b"hubspot secret", url=told, name="1", at=datetime.now(UTC))
            path = "/webhooks/hubspot/app?a=%3A1&b"
            answers.append(await vendor.browser.post(path, content=signed.body, headers=signed.headers))

        assert [answer.status_code for answer in answers] == [200, 401]


class TestAHandshake:
    async def test_is_answered_and_nothing_is_kept(self, vendor: Vendor, sessions: Sessions, vault: Vault) -> None:
        await add_channel(sessions, vault, "microsoft", secret=b"client state")

        answer = await vendor.browser.post("/webhooks/microsoft/app?validationToken=a%20token%3Cb%3E")

        assert (answer.status_code, answer.text) == (200, "a token<b>")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert await every(sessions, WebhookDelivery) == []

    async def test_may_be_a_get(self, vendor: Vendor, sessions: Sessions, vault: Vault) -> None:
        await add_channel(sessions, vault, "facebook", secret=b"app secret")
        query = {"hub.mode": "subscribe", "hub.challenge": "1158201444"}

        answers = [
            await vendor.browser.get("/webhooks/facebook/app", params=query | {"hub.verify_token": token})
            for token in (verify_token(b"app secret"), "wrong")
        ]

        assert [answer.status_code for answer in answers] == [200, 401]
        assert answers[0].text == "1158201444"
        assert await every(sessions, WebhookDelivery) == []

    async def test_of_a_stranger_is_refused(self, vendor: Vendor) -> None:
        answer = await vendor.browser.post("/webhooks/microsoft/nobody?validationToken=a")

        assert answer.status_code == 404


class TestMetrics:
    async def test_count_by_provider_and_outcome(self, vendor: Vendor, private_site: Site) -> None:
        async with private_site.browser() as prometheus:
            before = (await prometheus.get("/metrics")).text
            await vendor.send("m1")
            await vendor.send("m1")
            await vendor.send("m2", secret=b"whsec_" + b"A" * 32)
            await vendor.browser.post("/webhooks/verylongunknown/app")
            after = (await prometheus.get("/metrics")).text

        def grown(provider: str, outcome: str) -> float:
            name = f'services_webhook_total{{outcome="{outcome}",provider="{provider}"}} '
            values = [
                float(line.removeprefix(name))
                for page in (before, after)
                for line in page.splitlines()
                if line.startswith(name)
            ]
            return values[-1] - (values[0] if len(values) == 2 else 0)

        assert [grown("simulator", word) for word in ("accepted", "duplicate", "rejected")] == [1, 1, 1]
        assert grown("(unknown)", "rejected") == 1
        assert "verylongunknown" not in after
