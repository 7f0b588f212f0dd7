"""Channels test themselves through the ingress, over a real socket, signed as each provider signs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from activities import webhook_selftest as webhook_selftests
from activities.reconcile import Reconciled
from activities.webhook_selftest import SelfTest, WebhookSelfTestActivities
from integrations.db import webhook_secrets, webhook_selftest
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_tables import WebhookDelivery, WebhookRefusal, WebhookRepeat
from integrations.domain.errors import StopError
from integrations.domain.webhook_channel import Channel
from integrations.domain.webhook_selftest import PURPOSE, is_marked
from integrations.providers import catalog
from integrations.providers.webhooks import self_test as checks
from starters.embedded.ports import free_port
from tests.factories import add_channel, every
from tests.web.conftest import PROVIDER, Site
from web.open_channels import FRESH

SECRET = b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
OLDER = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CATALOG = catalog.load(host=PROVIDER)


def self_test(site: Site, vault: Vault, *, reached: str | None = None, known: catalog.Catalog = CATALOG) -> SelfTest:
    return SelfTest(site.sessions, vault, known, site.url, reached or site.url)


async def the_channel(sessions: Sessions, name: str = "app") -> Channel:
    async with sessions.begin() as session:
        [found] = [each for each in await webhook_selftest.channels(session) if each.channel == name]
    return found


@asynccontextmanager
async def silence() -> AsyncIterator[str]:
    """An address where requests are taken and nothing is ever said."""

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for writer in held:
            writer.close()
        server.close()


async def reconcile(sessions: Sessions, test: SelfTest) -> int:
    found = await ActivityEnvironment().run(WebhookSelfTestActivities(sessions, test).self_tests)
    assert isinstance(found, Reconciled)
    return found.self_tests


@pytest.mark.parametrize("provider_id", [entry.id for entry in CATALOG if entry.webhook is not None])
async def test_a_channel_of_each_provider_takes_what_is_its_and_nothing_else(
    provider_id: str, site: Site, vault: Vault
) -> None:
    await add_channel(site.sessions, vault, provider_id, secret=SECRET)

    cases = {each.name: each for each in await self_test(site, vault).run(await the_channel(site.sessions))}

    assert [case for case in cases.values() if not case.passed] == []
    assert {"tampered", "valid", "duplicate"} <= set(cases)
    [row] = await every(site.sessions, WebhookDelivery)
    assert len(await every(site.sessions, WebhookRepeat)) == 1
    assert is_marked(vault.derived(PURPOSE), provider_id, "app", row.delivery_id, row.headers)
    found = await the_channel(site.sessions)
    assert found.passed
    assert found.tested is not None
    assert [case["name"] for case in found.tested["cases"]] == list(cases)


class TestReconcile:
    async def test_tests_a_channel_once_and_again_when_its_secrets_change(self, site: Site, vault: Vault) -> None:
        await add_channel(site.sessions, vault, secret=OLDER)
        test = self_test(site, vault)
        assert await reconcile(site.sessions, test) == 1
        assert await reconcile(site.sessions, test) == 0

        await add_channel(site.sessions, vault, secret=SECRET)
        # What the ingress saw before is fresh for so long.
        await asyncio.sleep(2 * FRESH)
        assert await reconcile(site.sessions, test) == 1
        found = await the_channel(site.sessions)
        assert found.passed
        assert (found.tested or {})["cases"][-1]["name"] == "valid, with the secret before (1)"

        async with site.sessions.begin() as session:
            await webhook_secrets.retire(session, "simulator", "app")
        assert await reconcile(site.sessions, test) == 1

    async def test_tests_it_again_when_the_catalog_says_something_else(self, site: Site, vault: Vault) -> None:
        await add_channel(site.sessions, vault, secret=SECRET)
        assert await reconcile(site.sessions, self_test(site, vault)) == 1
        entry = CATALOG.provider("simulator")
        assert entry.webhook is not None
        changed = entry.model_copy(update={"webhook": entry.webhook.model_copy(update={"tolerance": timedelta(1)})})
        other: Any = [changed]

        assert await reconcile(site.sessions, self_test(site, vault, known=other)) == 1

    async def test_keeps_what_failed_and_tries_that_again_after_a_while(self, site: Site, vault: Vault) -> None:
        await add_channel(site.sessions, vault, secret=SECRET)
        nowhere = f"http://127.0.0.1:{free_port()}"
        down = self_test(site, vault, reached=nowhere)

        assert await reconcile(site.sessions, down) == 1
        found = await the_channel(site.sessions)
        assert not found.passed
        assert found.failures == [
            f"tampered: {nowhere}/webhooks/simulator/app does not answer (ConnectError), and not refused (401)"
        ]
        assert await reconcile(site.sessions, down) == 0

        async with site.sessions.begin() as session:
            await session.execute(text("UPDATE service_webhook_channels SET tested_at = now() - interval '11 min'"))
        assert await reconcile(site.sessions, self_test(site, vault)) == 1
        assert (await the_channel(site.sessions)).passed

    async def test_a_secret_that_nothing_is_signed_with_has_failed_and_harms_no_other_channel(
        self, site: Site, vault: Vault
    ) -> None:
        await add_channel(site.sessions, vault, channel="aaa", secret=b"whsec_abcde")
        await add_channel(site.sessions, vault, channel="bbb", secret=b"not base64 at all")
        await add_channel(site.sessions, vault, channel="ccc", secret=SECRET)

        assert await reconcile(site.sessions, self_test(site, vault)) == 3

        async with site.sessions.begin() as session:
            found = {each.channel: each for each in await webhook_selftest.channels(session)}
        assert {name: each.passed for name, each in found.items()} == {"aaa": False, "bbb": False, "ccc": True}
        for failed in (found["aaa"], found["bbb"]):
            assert len(failed.failures) == 1, "nothing is sent with it"
            assert "a secret of Standard Webhooks is whsec_ and base64" in failed.failures[0]
        assert await reconcile(site.sessions, self_test(site, vault)) == 0

    async def test_whatever_goes_wrong_is_a_case_that_failed(self, site: Site, vault: Vault) -> None:
        await add_channel(site.sessions, vault, secret=SECRET)

        assert await reconcile(site.sessions, self_test(site, vault, reached="http://a:b")) == 1

        assert (await the_channel(site.sessions)).failures == ["a request: cannot be made (InvalidURL), and not sent"]

    async def test_ends_at_the_first_that_is_not_answered_in_time_and_says_that_it_lives(
        self, site: Site, vault: Vault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for channel in ("aaa", "bbb", "ccc"):
            await add_channel(site.sessions, vault, channel=channel, secret=SECRET)

        async with silence() as nowhere:
            monkeypatch.setattr(checks, "_PATIENCE", 0.3)
            assert await reconcile(site.sessions, self_test(site, vault, reached=nowhere)) == 1
            beats: list[None] = []
            cases = await self_test(site, vault, reached=nowhere).run(
                await the_channel(site.sessions, "bbb"), lambda: beats.append(None)
            )
            monkeypatch.undo()

        assert [(case.got, case.answered) for case in cases] == [
            (f"{nowhere}/webhooks/simulator/bbb does not answer (TimeoutError)", False)
        ]
        assert len(beats) == 1
        await self_test(site, vault).run(await the_channel(site.sessions, "bbb"), lambda: beats.append(None))
        assert len(beats) == 1 + 4

    async def test_begins_no_more_of_them_after_a_while(
        self, site: Site, vault: Vault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(webhook_selftests, "_SWEEP", 0.0)
        for channel in ("aaa", "bbb"):
            await add_channel(site.sessions, vault, channel=channel, secret=SECRET)

        assert [await reconcile(site.sessions, self_test(site, vault)) for _ in range(3)] == [1, 1, 0]

    async def test_tests_it_again_at_another_address(self, site: Site, vault: Vault) -> None:
        """HubSpot signs it."""
        await add_channel(site.sessions, vault, secret=SECRET)
        assert await reconcile(site.sessions, self_test(site, vault)) == 1
        moved = SelfTest(site.sessions, vault, CATALOG, "https://hooks.example.com", site.url)

        assert await reconcile(site.sessions, moved) == 1

    async def test_leaves_a_channel_without_a_secret_or_a_section_alone(self, site: Site, vault: Vault) -> None:
        await add_channel(site.sessions, vault, "simulator")
        await add_channel(site.sessions, vault, "gone")
        async with site.sessions.begin() as session:
            await session.execute(
                text("UPDATE service_webhook_secrets SET state = 'retired', sealed = NULL WHERE provider_id <> 'gone'")
            )

        assert await reconcile(site.sessions, self_test(site, vault)) == 0


async def test_an_ingress_that_takes_everything_or_something_else_has_failed(
    site: Site, vault: Vault, simulator_url: str
) -> None:
    await add_channel(site.sessions, vault, secret=SECRET)

    cases = await self_test(site, vault, reached=simulator_url).run(await the_channel(site.sessions))

    assert {case.name: case.got for case in cases} == dict.fromkeys(
        ("tampered", "stale", "valid", "duplicate"), "HTTP 404"
    )
    assert not any(case.passed for case in cases)


async def test_says_what_keeps_it_from_testing(site: Site, vault: Vault) -> None:
    told: dict[str, Any] = {"connection_id": None, "made_at": datetime.now(UTC), "secrets": []}
    told |= {"tested_hash": None, "tested_at": None, "tested": None}

    with pytest.raises(StopError, match="the catalog says nothing of webhooks of 'gone'"):
        await self_test(site, vault).run(Channel(provider="gone", channel="app", **told))
    with pytest.raises(StopError, match="simulator/app has no live secret"):
        await self_test(site, vault).run(Channel(provider="simulator", channel="app", **told))


async def test_what_was_refused_is_counted_as_any_other(site: Site, vault: Vault) -> None:
    await add_channel(site.sessions, vault, secret=SECRET)

    await self_test(site, vault).run(await the_channel(site.sessions))

    async def counted() -> dict[str, int]:
        return {row.reason: row.count for row in await every(site.sessions, WebhookRefusal)}

    deadline = datetime.now(UTC) + timedelta(seconds=5)
    while len(await counted()) < 2 and datetime.now(UTC) < deadline:
        pass
    assert await counted() == {"wrong signature": 1, "outside the time tolerance": 1}
