"""The web app on a real socket, over real rows, and invitations to open."""

import asyncio
import base64
import dataclasses
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.db import connections, consents
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, ConsentState
from integrations.db.vault import Vault, session_place
from integrations.providers import catalog
from integrations.providers.http import make_client
from integrations.providers.oauth import Providers
from integrations.settings import Settings
from starters.embedded.ports import free_port
from tests.factories import add_channel, every
from tests.web.vendor import HUB, SECRET, XERO, Vendor
from web import ingress
from web.app import Platform, create_app, create_private_app

PROVIDER = "http://127.0.0.1:9"
"""Where the provider would be. The web app only ever sends browsers there."""
CREDENTIALS = {
    "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID": "runbook",
    "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET": "a secret that no page shows",
}
# httpx loads every root certificate for each client unless it is given something; nothing here speaks TLS.
UNUSED_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Serve = Callable[..., Awaitable[str]]
"""A platform, and what makes the app of it: the public one unless another is given."""


@dataclass(frozen=True)
class Invitation:
    """An invitation, its link, and its row as it is now."""

    site: "Site"
    session_id: UUID
    connection_id: UUID
    lifecycle_id: UUID

    @property
    def token(self) -> str:
        return self.site.vault.link_token(self.session_id)

    @property
    def path(self) -> str:
        return f"/reconsent/{self.token}"

    async def row(self) -> dict[str, Any]:
        async with self.site.sessions.begin() as session:
            row = await session.get_one(ConsentSession, self.session_id)
            return {column.name: getattr(row, column.name) for column in ConsentSession.__table__.columns}

    async def press(self) -> ConsentState:
        """The only time that its button was pressed."""
        [press] = await every(self.site.sessions, ConsentState, session_id=self.session_id)
        return press

    async def verifier(self) -> str:
        press = await self.press()
        assert press.sealed_verifier is not None
        place = session_place(self.session_id, "verifier")
        return self.site.vault.open(press.sealed_verifier, press.key_id, place).decode()

    async def connection(self) -> Connection:
        async with self.site.sessions.begin() as session:
            return await connections.find(session, self.connection_id)

    async def set(self, **values: Any) -> None:
        async with self.site.sessions.begin() as session:
            row = await session.get_one(ConsentSession, self.session_id)
            for name, value in values.items():
                setattr(row, name, value)

    async def end(self, status: str, outcome: str) -> None:
        async with self.site.sessions.begin() as session:
            await consents.end(session, self.session_id, status, outcome)

    async def replaced_by_a_newer_one(self, status: str, outcome: str) -> "Invitation":
        await self.end(status, outcome)
        return await self.site.invite(self.connection_id, self.lifecycle_id)


@dataclass(frozen=True)
class Site:
    url: str
    sessions: Sessions
    vault: Vault

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx.AsyncClient]:
        """Somebody's browser, with its own cookies. Follows nothing by itself."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, verify=UNUSED_TLS, timeout=20) as client:
            yield client

    async def invite(
        self,
        connection_id: UUID | None = None,
        lifecycle_id: UUID | None = None,
        *,
        why: str = "the grant was revoked",
        account: str | None = "ada@acme.example",
        provider_id: str = "simulator",
        until: timedelta = timedelta(days=14),
    ) -> Invitation:
        lifecycle_id = lifecycle_id or uuid4()
        async with self.sessions.begin() as session:
            if connection_id is None:
                row = Connection(
                    id=uuid4(),
                    provider_id=provider_id,
                    scope_type="org",
                    scope_id="acme",
                    status="pending_reauth",
                    status_reason="revoked",
                    account_name=account,
                    lifecycle_id=lifecycle_id,
                )
                session.add(row)
                await session.flush()
                connection_id = row.id
            connection = await connections.lock(session, connection_id)
            invitation = await consents.invite(
                session,
                self.vault,
                connection,
                lifecycle_id=lifecycle_id,
                asked=["notes.read", "notes.write"],
                why=why,
                expires_at=datetime.now(UTC) + until,
            )
        return Invitation(self, invitation.id, connection_id, lifecycle_id)


async def press(browser: httpx.AsyncClient, invitation: Invitation) -> str:
    """Press the button. The state that the provider is sent."""
    pressed = await browser.post(invitation.path)
    return httpx.URL(pressed.headers["location"]).params["state"]


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve a platform as `web.wiring` does; its base URL is where it listens."""
    async with AsyncExitStack() as stack:

        async def start(platform: Platform, create: Callable[[Platform], FastAPI] = create_app) -> str:
            config = uvicorn.Config(
                create(platform),
                host="127.0.0.1",
                port=int(platform.base_url.rsplit(":", 1)[1]),
                access_log=False,
                log_config=None,
                server_header=False,
                lifespan="off",
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server._serve())  # without uvicorn's signal handlers, which are pytest's

            async def stop() -> None:
                server.should_exit = True
                await serving

            stack.push_async_callback(stop)
            async with asyncio.timeout(10):
                while not server.started:
                    await asyncio.sleep(0.01)
            return platform.base_url

        yield start


@pytest_asyncio.fixture
async def offline_providers() -> AsyncIterator[Providers]:
    async with make_client() as http:
        yield Providers(catalog.load(host=PROVIDER, environment=CREDENTIALS), http)


@pytest_asyncio.fixture
async def parts(
    sessions: Sessions,
    vault: Vault,
    offline_providers: Providers,
    time_skipping: WorkflowEnvironment,
    database_url: str,
) -> AsyncIterator[Platform]:
    """A platform with everything in place, on a free port."""
    url = f"http://127.0.0.1:{free_port()}"
    async with ingress.opened(database_url, sessions, vault, offline_providers.catalog, url) as webhooks:
        yield Platform(sessions, vault, offline_providers, time_skipping.client, url, webhooks)


@pytest_asyncio.fixture
async def site(serve: Serve, parts: Platform) -> Site:
    return Site(await serve(parts), parts.sessions, parts.vault)


@pytest_asyncio.fixture
async def temporal_down(database_url: str, raw_key: bytes) -> Client:
    """A client for an address where nothing listens."""
    key = SecretStr(base64.b64encode(raw_key).decode())
    nowhere = f"127.0.0.1:{free_port()}"
    config = Settings(database_url=SecretStr(database_url), key=key, temporal_address=nowhere)
    return await temporal.connect(config, lazy=True)


@pytest_asyncio.fixture
async def private_site(serve: Serve, parts: Platform) -> Site:
    """The port that only our own machines reach."""
    url = f"http://127.0.0.1:{free_port()}"
    return Site(await serve(dataclasses.replace(parts, base_url=url), create_private_app), parts.sessions, parts.vault)


@pytest_asyncio.fixture
async def dark_site(serve: Serve, parts: Platform, temporal_down: Client) -> Site:
    """The site while Temporal is down."""
    url = f"http://127.0.0.1:{free_port()}"
    dark = dataclasses.replace(parts, temporal=temporal_down, base_url=url)
    return Site(await serve(dark), parts.sessions, parts.vault)


@pytest_asyncio.fixture
async def vendor(site: Site, sessions: Sessions, vault: Vault) -> AsyncIterator[Vendor]:
    await add_channel(sessions, vault, secret=SECRET)
    await add_channel(sessions, vault, "github", secret=HUB)
    await add_channel(sessions, vault, "xero", secret=XERO)
    async with site.browser() as browser:
        yield Vendor(browser)
