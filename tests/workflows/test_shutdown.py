"""A worker that is told to stop finishes the call it has in hand, as the attempt that it is."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.db import credentials
from integrations.db.credentials import Tokens
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.domain.call import Caller
from integrations.domain.refresh import RefreshRequest
from integrations.providers.oauth import OAuthClient, Providers, TokenAnswer
from integrations.settings import load
from worker.plugin import runbook_plugin
from worker.wiring import build_workers


class SlowProviders(Providers):
    """Providers whose token endpoint takes until it is told to go on."""

    def __init__(self, real: Providers) -> None:
        super().__init__(real.catalog, real._http)
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    def client(
        self, provider_id: str, values: Mapping[str, Any] | None = None, caller: Caller | None = None
    ) -> OAuthClient:
        outer, real = self, super().client(provider_id, values, caller)

        class Slow(OAuthClient):
            async def refresh(self, token: SecretStr) -> TokenAnswer:
                outer.reached.set()
                await outer.go_on.wait()
                return await real.refresh(token)

        return Slow(real.provider, real._credentials, real._http)


async def connected(sessions: Sessions, vault: Vault) -> Connection:
    """An active connection whose tokens nobody issued: its refresh will be refused."""
    async with sessions.begin() as session:
        row = Connection(
            id=uuid4(),
            provider_id="simulator",
            scope_type="org",
            scope_id="acme",
            status="active",
            status_reason="test",
        )
        session.add(row)
        await session.flush()
        tokens = Tokens(access_token=SecretStr("not issued"), refresh_token=SecretStr("not issued"))
        await credentials.add(session, vault, row.id, tokens, state="active", grants=[], expires_at=None)
    return row


async def history_of(client: Client, workflow_id: str, kind: EventType.ValueType) -> list[Any]:
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return [event for event in history.events if event.event_type == kind]


class TestAStoppingWorker:
    async def test_finishes_its_call_as_the_first_attempt(
        self,
        time_skipping: WorkflowEnvironment,
        engine: AsyncEngine,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
        database_url: str,
        base64_key: str,
    ) -> None:
        client = await Client.connect(
            time_skipping.client.service_client.config.target_host, plugins=[runbook_plugin()]
        )
        slow, row = SlowProviders(providers), await connected(sessions, vault)
        settings = load({"database_url": database_url, "key": base64_key}, environment={})
        workers = build_workers(client, engine, slow, {}, settings, ["simulator"])
        running = [asyncio.create_task(worker.run()) for worker in workers]
        request = RefreshRequest(
            connection_id=row.id, provider_id="simulator", tenant="org:acme", by="ada", reason="the token is due"
        )

        started = await temporal.start_refresh(client, request)
        await asyncio.wait_for(slow.reached.wait(), 20)
        stopping = [asyncio.create_task(worker.shutdown()) for worker in workers]
        await asyncio.sleep(0.5)  # long enough for a worker without grace to cancel what runs
        slow.go_on.set()
        await asyncio.gather(*stopping, *running)
        done = await history_of(client, started.id, EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
        begun = await history_of(client, started.id, EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED)
        await started.terminate()

        assert len(done) == 1
        assert [event.activity_task_started_event_attributes.attempt for event in begun] == [1]
