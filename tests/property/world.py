"""Everything that takes part, and is real: Postgres, Temporal, the simulator's process, the worker and the web app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from integrations import temporal
from integrations.db import credentials
from integrations.db.session import Sessions, make_sessions
from integrations.db.vault import Vault
from integrations.domain.connection import reauth_id
from integrations.domain.refresh import Refreshed, RefreshRequest
from integrations.providers.oauth import Providers
from integrations.settings import Settings
from simulator.fingerprint import fingerprint
from starters.client import Platform
from web import app as web
from web import ingress
from worker.wiring import build_workers
from workflows.queues import WORKFLOWS

PROVIDER = "simulator"


@dataclass(frozen=True)
class World:
    settings: Settings
    sessions: Sessions
    temporal: Client
    platform: Platform
    app: FastAPI
    simulator: httpx.AsyncClient

    def lifecycle(self, connection_id: UUID) -> WorkflowHandle[Any, Any]:
        return self.temporal.get_workflow_handle(reauth_id(PROVIDER, connection_id))

    async def lives(self, workflow_id: str) -> bool:
        """Only the workflow itself can say so: the list lags behind."""
        try:
            described = await self.temporal.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return described.status is WorkflowExecutionStatus.RUNNING

    async def refresh(self, connection_id: UUID) -> WorkflowHandle[Any, Refreshed]:
        """As an operator's command starts it, but for the ten seconds until a refusal is believed."""
        wanted = RefreshRequest(
            connection_id=connection_id,
            provider_id=PROVIDER,
            tenant="org:acme",
            by="the test",
            reason="any order",
            confirm_after=timedelta(milliseconds=20),
        )
        started = await temporal.start_refresh(self.temporal, wanted)
        return self.temporal.get_workflow_handle(started.id, result_type=Refreshed)

    async def sweep(self) -> None:
        """What the Schedule does each minute."""
        swept = await self.temporal.start_workflow("ReconcileWorkflow", id=f"sweep-{uuid4()}", task_queue=WORKFLOWS)
        await asyncio.wait_for(swept.result(), 30)

    async def rows(self, sql: str, **values: Any) -> list[Any]:
        async with self.sessions.begin() as session:
            return list((await session.execute(text(sql), values)).all())

    async def asks_whose_token(self, connection_id: UUID) -> tuple[int, str | None, str | None]:
        """The provider's answer to a call with the active token, and grant and account that it knows the token by."""
        async with self.sessions.begin() as session:
            active = await credentials.active(session, connection_id)
        if active is None:
            return 0, None, None
        token = credentials.opened(Vault(self.settings.keys), active).access_token.get_secret_value()
        answer = await self.simulator.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        log = (await self.simulator.get("/admin/requests", params={"path": "/api/me", "limit": 20})).json()
        [*_, mine] = [row for row in log if row["detail"].get("token_fp") == fingerprint(token)]
        return answer.status_code, mine["grant_id"], mine["account_id"]

    async def breaks(self, **order: Any) -> str:
        """Order a fault. Its id."""
        answer = await self.simulator.post("/admin/faults", json=order)
        return str(answer.raise_for_status().json()["id"])

    async def heals(self, fault_id: str) -> None:
        await self.simulator.delete(f"/admin/faults/{fault_id}")  # one that is used up is gone already


@asynccontextmanager
async def turning(
    settings: Settings, engine: AsyncEngine, client: Client, providers: Providers, simulator_url: str
) -> AsyncIterator[World]:
    """The world with its worker and web app at work."""
    sessions = make_sessions(engine)
    vault, url = Vault(settings.keys), settings.web_url
    async with (
        httpx.AsyncClient(base_url=simulator_url, trust_env=False, timeout=20) as simulator,
        ingress.opened(settings.sqlalchemy_url, sessions, vault, providers.catalog, url) as webhooks,
    ):
        parts = web.Platform(sessions, vault, providers, client, url, webhooks)
        platform = Platform(settings, sessions, client)
        workers = build_workers(client, engine, providers, {}, settings, [PROVIDER])
        running = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            yield World(settings, sessions, client, platform, web.create_app(parts), simulator)
        finally:
            await asyncio.gather(*(worker.shutdown() for worker in workers))
            await asyncio.gather(*running)
