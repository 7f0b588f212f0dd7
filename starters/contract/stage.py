"""A simulator for one run of the check: a process of its own, which ends with this one however this one ends."""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import SecretStr

from integrations.domain.errors import StopError
from integrations.providers.catalog import ClientCredentials
from integrations.providers.http import make_client
from starters.contract.visitor import CALLBACK
from starters.embedded.ports import HOST, free_port
from starters.embedded.process import Command, GuardedProcess

_READY: Final = 30.0
OWNER: Final = ("acct_ada", "Ada Acme")
APPLICATION: Final = ("acct_app", "The application itself")
"""Accounts of the simulator: the id and the name."""


class UnspeakableError(StopError):
    """The simulator cannot speak as an entry says. The message is the simulator's."""


@dataclass(frozen=True, slots=True)
class Stage:
    url: str
    credentials: ClientCredentials
    http: httpx.AsyncClient
    """Our own client, as the workers use it."""
    admin: httpx.AsyncClient

    async def speak(self, dialect: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Speak as another provider, with nobody's grants left. Raises UnspeakableError."""
        await self.heal()
        await self.revoke()
        await self._ask("PUT", "/admin/settings", settings)
        answer = await self.admin.put("/admin/dialect", json=dialect)
        if answer.is_error:
            raise UnspeakableError(answer.json()["error"])

    async def settings(self, **changes: Any) -> None:
        await self._ask("PUT", "/admin/settings", changes)

    async def fault(self, **order: Any) -> None:
        """Break the next request that this concerns."""
        await self._ask("POST", "/admin/faults", {"count": 1} | order)

    async def heal(self) -> None:
        """Lift a fault that met nothing."""
        await self._ask("DELETE", "/admin/faults")

    async def revoke(self) -> None:
        """End every grant, as the owner would at the provider."""
        for account_id, _ in (OWNER, APPLICATION):
            # Where there is none, the answer is 404, and there is nothing to end.
            await self.admin.post("/admin/grants/revoke", json={"account_id": account_id})

    async def last_request(self) -> dict[str, Any]:
        """What the provider's own log says of the newest request."""
        rows: list[dict[str, Any]] = (await self._ask("GET", "/admin/requests?limit=1")).json()
        return rows[0]["detail"] if rows else {}

    async def _ask(self, method: str, where: str, body: Any = None) -> httpx.Response:
        return (await self.admin.request(method, where, json=body)).raise_for_status()


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """A running simulator. Its log is gone once it is up, so that a killed command leaves nothing behind."""
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="runbook-contract-"))
    url, secret = f"http://{HOST}:{port}", secrets.token_urlsafe(32)
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "SIMULATOR_CLIENT_ID": "runbook",
        "SIMULATOR_CLIENT_SECRET": secret,
        "SIMULATOR_REDIRECT_URIS": CALLBACK,
    }
    argv = [sys.executable, "-m", "simulator", "--port", str(port)]
    try:
        process = GuardedProcess.start(Command("simulator", argv, folder / "simulator.log", environment, grace=1.0))
        try:
            async with make_client() as http, httpx.AsyncClient(base_url=url, trust_env=False, timeout=10.0) as admin:
                await process.wait_until_ready(_answers(admin), _READY)
                shutil.rmtree(folder)
                credentials = ClientCredentials(client_id="runbook", client_secret=SecretStr(secret))
                yield Stage(url, credentials, http, admin)
        finally:
            await process.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(admin: httpx.AsyncClient) -> Any:
    async def probe() -> bool:
        try:
            return (await admin.get("/healthz")).is_success
        except httpx.TransportError:
            return False

    return probe
