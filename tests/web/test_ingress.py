"""Webhooks as they come in: over a real socket, into real rows."""

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import webhook_channels, webhook_ingress, webhook_secrets
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_tables import WebhookDelivery, WebhookRepeat
from integrations.domain.webhook import DIGEST_WINDOW, LIFECYCLE_WINDOW
from tests.factories import add_channel, every
from tests.web.conftest import Site
from tests.web.test_headers import EVERYWHERE
from tests.web.vendor import HUB, SECRET, Vendor, hub
from web.open_channels import FRESH, USUAL

ACCEPTED, DUPLICATE, REJECTED = ({"status": word} for word in ("accepted", "duplicate", "rejected"))


async def the_only(sessions: Sessions) -> WebhookDelivery:
    [row] = await every(sessions, WebhookDelivery)
    return row


async def change(engine: AsyncEngine, what: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(f"UPDATE service_webhook_deliveries SET {what}"))


async def handled(engine: AsyncEngine, ago: timedelta) -> None:
    at = f"now() - interval '{ago.total_seconds()} s'"
    await change(engine, f"status = 'delivered', handled_as = 'event', received_at = {at}, settled_at = {at}")


class TestADelivery:
    async def test_is_a_row_with_what_came_byte_for_byte(self, vendor: Vendor, sessions: Sessions) -> None:
        body = '{"type":"note.changed" , "data": {"account_id": "acct_ada", "resource": "n1"}, "ü": 1.0}'.encode()
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)

        answer = await vendor.send("msg_7", body, at=at, headers={"User-Agent": "Simulator/1"})

        row = await the_only(sessions)
        assert (answer.status_code, answer.json()) == (200, ACCEPTED)
        assert row.body == body
        assert (row.provider_id, row.channel, row.delivery_id, row.identity) == ("simulator", "app", "msg_7", "id")
        assert (row.event, row.account, row.status, row.sent_at) == ("note.changed", "acct_ada", "pending", at)
        assert row.headers["user-agent"] == "Simulator/1"
        assert row.headers["webhook-id"] == "msg_7"
        assert (row.resource, row.due_at - row.received_at) == ("n1", timedelta(seconds=2)), "as its entry coalesces"
        assert EVERYWHERE.items() <= dict(answer.headers).items()

    async def test_leaves_secrets_of_its_headers_out(self, vendor: Vendor, sessions: Sessions) -> None:
        held = {"Authorization": "Bearer verysecret", "Cookie": "a=verysecret", "Proxy-Authorization": "verysecret"}

        await vendor.send(headers=held)

        row = await the_only(sessions)
        assert "verysecret" not in json.dumps(row.headers)

    async def test_to_a_closed_channel_is_refused_without_a_row(self, vendor: Vendor, sessions: Sessions) -> None:
        assert (await vendor.send("before")).status_code == 200
        async with sessions.begin() as session:
            await webhook_channels.close(session, "simulator", "app", by="ada", reason="gone")
        await asyncio.sleep(USUAL)

        assert (await vendor.send("after")).status_code == 404

        assert (await the_only(sessions)).delivery_id == "before"

    async def test_waits_for_its_window_only_where_it_is_coalesced(self, vendor: Vendor, sessions: Sessions) -> None:
        data = {"resource": "n1", "account_id": "acct_ada"}

        await vendor.send("changed", {"type": "note.changed", "data": data})
        await vendor.send("nothing", {"type": "note.changed", "data": {}})
        await vendor.send("revoked", {"type": "grant.revoked", "data": data})

        rows = {row.delivery_id: row for row in await every(sessions, WebhookDelivery)}
        waits = {name: row.due_at - row.received_at for name, row in rows.items()}
        assert waits == {"changed": timedelta(seconds=2), "nothing": timedelta(0), "revoked": timedelta(0)}
        assert {name: row.resource for name, row in rows.items()} == {"changed": "n1", "nothing": "", "revoked": ""}

    async def test_that_is_compressed_is_just_bytes(self, vendor: Vendor, sessions: Sessions) -> None:
        """The signature is over what was sent; nobody unpacks a bomb."""
        body = gzip.compress(bytes(10_000_000))

        answer = await vendor.github(body, "1", **{"Content-Encoding": "gzip"})

        assert answer.status_code == 200
        assert (await the_only(sessions)).body == body

    async def test_is_verified_with_each_live_secret(self, vendor: Vendor, sessions: Sessions, vault: Vault) -> None:
        newer = b"whsec_" + SECRET[6:][::-1]
        await add_channel(sessions, vault, secret=newer)

        answers = [await vendor.send(f"{n}", secret=secret) for n, secret in enumerate((newer, SECRET, newer))]
        async with sessions.begin() as session:
            await webhook_secrets.retire(session, "simulator", "app")
        await asyncio.sleep(1.1)
        late = await vendor.send("late", secret=SECRET)

        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert late.status_code == 401

    async def test_is_accepted_as_soon_as_its_channel_is_made(
        self, vendor: Vendor, sessions: Sessions, vault: Vault
    ) -> None:
        before = await vendor.send(channel="new")
        await asyncio.sleep(2 * FRESH)
        await add_channel(sessions, vault, channel="new", secret=SECRET)

        assert (before.status_code, (await vendor.send(channel="new")).status_code) == (404, 200)


class TestADuplicate:
    async def test_is_acknowledged_and_counted_and_changes_nothing(
        self, vendor: Vendor, sessions: Sessions, engine: AsyncEngine
    ) -> None:
        await vendor.send("msg_1", {"first": True})
        for status in ("pending", "delivered"):
            await change(engine, f"status = '{status}'")
            before = await the_only(sessions)

            answer = await vendor.send("msg_1", {"first": False})

            after = await the_only(sessions)
            assert (answer.status_code, answer.json()) == (200, DUPLICATE)
            assert {column.name: getattr(after, column.name) for column in after.__table__.columns} == {
                column.name: getattr(before, column.name) for column in before.__table__.columns
            }
        repeats = await every(sessions, WebhookRepeat)
        assert [(each.provider_id, each.channel, each.delivery_id) for each in repeats] == [
            ("simulator", "app", "msg_1")
        ] * 2

    async def test_is_one_row_of_a_thousand_at_once(self, vendor: Vendor, sessions: Sessions, site: Site) -> None:
        async def sender(count: int) -> list[httpx.Response]:
            async with site.browser() as browser:
                return [await Vendor(browser).send("msg_1") for _ in range(count)]

        answers = [answer for sent in await asyncio.gather(*(sender(25) for _ in range(40))) for answer in sent]

        told = [answer.json()["status"] for answer in answers]
        assert (told.count("accepted"), told.count("duplicate")) == (1, 999)
        assert len(await every(sessions, WebhookDelivery)) == 1
        assert len(await every(sessions, WebhookRepeat)) == 999

    async def test_of_another_channel_or_provider_is_none(
        self, vendor: Vendor, sessions: Sessions, vault: Vault
    ) -> None:
        await add_channel(sessions, vault, channel="other", secret=SECRET)

        answers = [
            await vendor.send("1"),
            await vendor.send("1", channel="other"),
            await vendor.github(b"{}", "1"),
        ]

        assert [answer.json() for answer in answers] == [ACCEPTED] * 3
        assert len(await every(sessions, WebhookDelivery)) == 3

    @pytest.mark.parametrize("status", ["retrying", "dead"])
    async def test_wakes_up_what_had_failed(
        self, vendor: Vendor, sessions: Sessions, engine: AsyncEngine, status: str
    ) -> None:
        await vendor.send()
        await change(
            engine, f"status = '{status}', attempts = 3, cause = 'c', lease_until = now(), due_at = now() + '1 h'"
        )

        answer = await vendor.send()

        row = await the_only(sessions)
        assert (answer.status_code, answer.json()) == (200, DUPLICATE)
        assert (row.status, row.woken, row.lease_until, row.attempts) == ("pending", 1, None, 3)
        assert row.due_at <= datetime.now(UTC)
        assert row.history is not None
        assert row.history[-1]["error"] == "sent again by the provider: tried at once"
        assert len(await every(sessions, WebhookRepeat)) == 1

    async def test_waits_for_no_handler(self, vendor: Vendor, sessions: Sessions, engine: AsyncEngine) -> None:
        await vendor.send()
        await change(engine, "status = 'dead', cause = 'c'")
        async with engine.begin() as handler:
            await handler.execute(text("SELECT 1 FROM service_webhook_deliveries FOR UPDATE"))

            answer = await asyncio.wait_for(vendor.send(), 3)

        assert answer.json() == DUPLICATE
        assert (await the_only(sessions)).status == "dead"
        assert len(await every(sessions, WebhookRepeat)) == 1


class TestADeliveryWithoutAnId:
    async def test_is_known_by_its_body_for_a_day(
        self, vendor: Vendor, sessions: Sessions, engine: AsyncEngine
    ) -> None:
        body = b'{"events": [{"eventCategory": "INVOICE"}]}'
        answers = [await vendor.xero(body), await vendor.xero(body), await vendor.xero(body + b" ")]
        first = len(await every(sessions, WebhookDelivery))
        await handled(engine, DIGEST_WINDOW + timedelta(seconds=1))

        await vendor.xero(body)
        again = len(await every(sessions, WebhookDelivery))
        await asyncio.gather(*(vendor.xero(body) for _ in range(4)))

        rows = sorted(await every(sessions, WebhookDelivery), key=lambda row: row.position)
        same = [row for row in rows if row.body == body]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert (first, again, len(rows), len(await every(sessions, WebhookRepeat))) == (2, 3, 3, 5)
        assert {row.identity for row in rows} == {"digest"}
        assert same[0].delivery_id == f"{same[1].delivery_id}@{same[0].position}"

    async def test_that_makes_us_do_something_is_news_again_after_minutes(
        self, vendor: Vendor, sessions: Sessions, vault: Vault, engine: AsyncEngine
    ) -> None:
        """Graph tells twice in the same words that it has dropped something."""
        secret = b"a client state"
        await add_channel(sessions, vault, "microsoft", secret=secret)
        body = b'{"value": [{"clientState": "a client state", "lifecycleEvent": "missed"}]}'
        for _ in range(2):
            await vendor.browser.post("/webhooks/microsoft/app", content=body)
        [row] = await every(sessions, WebhookDelivery)
        assert (row.reaction, row.notices, row.identity) == ("missed", None, "digest")
        await handled(engine, LIFECYCLE_WINDOW + timedelta(seconds=1))

        await vendor.browser.post("/webhooks/microsoft/app", content=body)

        assert len(await every(sessions, WebhookDelivery)) == 2

    async def test_is_written_down_with_all_that_it_tells(
        self, vendor: Vendor, sessions: Sessions, vault: Vault
    ) -> None:
        await add_channel(sessions, vault, "facebook", secret=HUB)
        gone = {"field": "connected", "value": {"verb": "revoked"}}
        entries = [{"id": "7", "time": 1764504000}, {"id": "8", "time": 1764504001, "changes": [gone]}]
        body = json.dumps({"object": "permissions", "entry": entries}).encode()

        await vendor.browser.post("/webhooks/facebook/app", content=body, headers=hub(body, HUB))

        [row] = await every(sessions, WebhookDelivery)
        assert (row.reaction, row.event, row.account) == ("revoked", "permissions.connected.revoked", "8")
        assert row.notices == [["revoked", "permissions.connected.revoked", "8"], ["event", "permissions", "7"]]
        assert row.occurred_at == datetime(2025, 11, 30, 12, tzinfo=UTC)

    async def test_is_known_for_as_long_as_its_provider_repeats_it(
        self, vendor: Vendor, sessions: Sessions, vault: Vault, engine: AsyncEngine
    ) -> None:
        """Meta does so for 36 hours."""
        await add_channel(sessions, vault, "facebook", secret=HUB)
        headers = hub(b"{}", HUB)
        for hours in (0, 35, 37):
            await handled(engine, timedelta(hours=hours))
            answer = await vendor.browser.post("/webhooks/facebook/app", content=b"{}", headers=headers)
            assert answer.json() == (DUPLICATE if hours == 35 else ACCEPTED)

        assert len(await every(sessions, WebhookDelivery)) == 2

    async def test_is_answered_without_a_body_where_the_provider_wants_none(self, vendor: Vendor) -> None:
        body = b'{"events": [{"eventCategory": "INVOICE"}]}'

        answers = [await vendor.xero(body), await vendor.xero(body), await vendor.xero(body, b"wrong")]

        assert [(answer.status_code, answer.content) for answer in answers] == [(200, b""), (200, b""), (401, b"")]


class TestALargeDelivery:
    """One that came before is known by its key, and not carried to the database again."""

    async def test_is_taken_once(self, vendor: Vendor, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
        body = bytes(100_000)
        first = await vendor.github(body, "large")
        unnamed = await vendor.xero(body)
        for statement in ("_INSERT", "_INSERT_DIGEST"):
            monkeypatch.setattr(webhook_ingress, statement, "SELECT nothing")

        again = [await vendor.github(body, "large"), await vendor.xero(body)]

        assert (first.json(), unnamed.status_code) == (ACCEPTED, 200)
        assert (again[0].json(), again[1].status_code) == (DUPLICATE, 200)
        assert len(await every(sessions, WebhookRepeat)) == 2

    async def test_without_an_id_is_another_one_after_its_window(
        self, vendor: Vendor, sessions: Sessions, engine: AsyncEngine
    ) -> None:
        body = bytes(100_000)
        await vendor.xero(body)
        await handled(engine, DIGEST_WINDOW + timedelta(seconds=1))

        await vendor.xero(body)

        assert len(await every(sessions, WebhookDelivery)) == 2
