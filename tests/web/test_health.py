"""What whoever restarts processes is told."""

import dataclasses
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client

from integrations.db.session import make_engine, make_sessions
from integrations.db.webhook_tables import WebhookDelivery
from starters.embedded.ports import free_port
from tests.factories import every
from tests.web.conftest import Serve, Site
from web.app import Platform, create_private_app

READY = {"database": "ok", "webhook ledger": "ok", "temporal": "ok"}


def moved(parts: Platform, **changes: Any) -> Platform:
    return dataclasses.replace(parts, base_url=f"http://127.0.0.1:{free_port()}", **changes)


def asked(url: str, parts: Platform) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return Site(url, parts.sessions, parts.vault).browser()


class TestHealth:
    async def test_is_alive_and_ready(self, private_site: Site) -> None:
        async with private_site.browser() as probe:
            alive, ready = await probe.get("/healthz"), await probe.get("/readyz")

        assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
        assert (ready.status_code, ready.json()) == (200, READY)

    async def test_takes_consents_without_temporal_and_says_that_it_is_gone(
        self, serve: Serve, parts: Platform, temporal_down: Client
    ) -> None:
        async with asked(await serve(moved(parts, temporal=temporal_down), create_private_app), parts) as probe:
            alive, ready = await probe.get("/healthz"), await probe.get("/readyz")

        assert alive.status_code == 200
        assert ready.status_code == 200
        assert ready.json()["database"] == "ok"
        assert "does not answer" in ready.json()["temporal"]

    async def test_is_alive_but_not_ready_without_a_database_and_says_so(
        self, parts: Platform, serve: Serve, database_url: str
    ) -> None:
        """Nobody listens; or somebody does, and there is no such database."""
        nobody = make_url(database_url).set(host="127.0.0.1", port=free_port(), query={})
        no_such = make_url(database_url).set(database="nothing_here")
        for url in (nobody, no_such):
            engine = make_engine(url.render_as_string(hide_password=False))
            base_url = await serve(moved(parts, sessions=make_sessions(engine)), create_private_app)

            async with asked(base_url, parts) as probe:
                alive, ready = await probe.get("/healthz"), await probe.get("/readyz")
            await engine.dispose()

            assert alive.status_code == 200
            assert ready.status_code == 503
            assert "does not answer" in ready.json()["database"]
            assert "does not answer" in ready.json()["webhook ledger"]
            assert ready.json()["temporal"] == "ok"

    async def test_is_not_ready_when_the_ledger_of_webhooks_takes_no_row(
        self, private_site: Site, engine: AsyncEngine
    ) -> None:
        refusing = "ALTER TABLE service_webhook_deliveries {} CONSTRAINT refuses"
        async with engine.begin() as connection:
            await connection.execute(text(refusing.format("ADD") + " CHECK (false) NOT VALID"))
        try:
            async with private_site.browser() as probe:
                ready = await probe.get("/readyz")
        finally:
            async with engine.begin() as connection:
                await connection.execute(text(refusing.format("DROP")))

        assert ready.status_code == 503
        assert ready.json() == READY | {"webhook ledger": "takes no row (CheckViolationError)"}

    async def test_leaves_nothing_behind_when_it_is_asked(self, private_site: Site) -> None:
        async with private_site.browser() as probe:
            await probe.get("/readyz")

        assert await every(private_site.sessions, WebhookDelivery) == []

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
    async def test_is_nothing_that_the_public_port_tells(self, site: Site, path: str) -> None:
        async with site.browser() as stranger:
            assert (await stranger.get(path)).status_code == 404

    @pytest.mark.parametrize("path", ["/reconsent/x", "/webhooks/simulator/app", "/oauth/callback/simulator"])
    async def test_is_all_that_the_private_port_tells(self, private_site: Site, path: str) -> None:
        async with private_site.browser() as probe:
            assert (await probe.get(path)).status_code == 404
