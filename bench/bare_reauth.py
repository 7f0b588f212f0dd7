"""The bound of `reauth`: a plain worker. No sandbox, no models, no encryption, no guards; asyncpg and one httpx client.

`python -m bench.bare_reauth`, told by the stack's environment where everything is.
"""

import asyncio
import os
import signal
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE: Final = "bare-reauth"
SCHEMA: Final = """
CREATE SCHEMA bench;
CREATE TABLE bench.step (key uuid, name text, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (key, name));
"""
_INSERT: Final = "INSERT INTO bench.step (key, name) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_TIMEOUT: Final = timedelta(seconds=30)


class Bare:
    def __init__(self, pool: "asyncpg.Pool[Any]", http: httpx.AsyncClient, environment: dict[str, str]) -> None:
        self._pool = pool
        self._http = http
        self._form = {
            "grant_type": "authorization_code",
            "redirect_uri": environment["SIMULATOR_REDIRECT_URIS"],
            "client_id": environment["SIMULATOR_CLIENT_ID"],
            "client_secret": environment["SIMULATOR_CLIENT_SECRET"],
        }

    @activity.defn
    async def exchange(self, key: str, code: str, verifier: str) -> str:
        answer = await self._http.post("/oauth/token", data=self._form | {"code": code, "code_verifier": verifier})
        token: str = answer.raise_for_status().json()["access_token"]
        await self._get("/api/me", token)
        await self._insert(key, "exchange")
        return token

    @activity.defn
    async def prove(self, key: str, token: str) -> None:
        await asyncio.gather(*(self._get(path, token) for path in ("/api/profile", "/api/notes", "/api/me")))
        await self._insert(key, "prove")

    @activity.defn
    async def activate(self, key: str) -> None:
        await self._insert(key, "activate")

    @activity.defn
    async def open(self, key: str) -> None:
        await self._insert(key, "open")

    async def _get(self, path: str, token: str) -> None:
        answer = await self._http.get(path, headers={"Authorization": f"Bearer {token}"})
        answer.raise_for_status().json()

    async def _insert(self, key: str, name: str) -> None:
        await self._pool.execute(_INSERT, UUID(key), name)


@workflow.defn
class BareConsent:
    """A signal, then three activities that make the product's HTTP calls, with one insert each."""

    def __init__(self) -> None:
        self._code: list[str] | None = None

    @workflow.signal
    def consent(self, code: str, verifier: str) -> None:
        self._code = [code, verifier]

    @workflow.run
    async def run(self, key: str) -> None:
        await workflow.wait_condition(lambda: self._code is not None)
        assert self._code is not None
        token = await workflow.execute_activity_method(
            Bare.exchange, args=[key, *self._code], start_to_close_timeout=_TIMEOUT
        )
        await workflow.execute_activity_method(Bare.prove, args=[key, token], start_to_close_timeout=_TIMEOUT)
        await workflow.execute_activity_method(Bare.activate, key, start_to_close_timeout=_TIMEOUT)


@workflow.defn
class BareOpening:
    """One activity with one insert, then the wait."""

    def __init__(self) -> None:
        self._ended = False

    @workflow.signal
    def end(self) -> None:
        self._ended = True

    @workflow.run
    async def run(self, key: str) -> None:
        await workflow.execute_activity_method(Bare.open, key, start_to_close_timeout=_TIMEOUT)
        await workflow.wait_condition(lambda: self._ended)


async def main() -> None:
    told = dict(os.environ)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await Client.connect(told["RUNBOOK_TEMPORAL_ADDRESS"], namespace=told["RUNBOOK_TEMPORAL_NAMESPACE"])
    limits = httpx.Limits(max_connections=100)
    async with (
        asyncpg.create_pool(told["BENCH_DSN"], min_size=10, max_size=10) as pool,
        httpx.AsyncClient(base_url=told["RUNBOOK_SIMULATOR_URL"], trust_env=False, limits=limits) as http,
    ):
        await pool.execute(SCHEMA)
        bare = Bare(pool, http, told)
        async with Worker(
            client,
            task_queue=QUEUE,
            workflows=[BareConsent, BareOpening],
            activities=[bare.exchange, bare.prove, bare.activate, bare.open],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            await stop.wait()
    await asyncio.sleep(0.25)  # sdk-python #300


if __name__ == "__main__":
    asyncio.run(main())
