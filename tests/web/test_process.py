"""`python -m web`, a process of its own."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from integrations.db import binding
from integrations.db.binding import Target
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_tables import WebhookRefusal
from starters.embedded.ports import free_ports
from tests.factories import add_channel, every
from tests.web.vendor import SECRET


@asynccontextmanager
async def process(database_url: str, key: str, temporal: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        "PATH": os.environ["PATH"],
        "RUNBOOK_DATABASE_URL": database_url,
        "RUNBOOK_KEY": key,
        "RUNBOOK_TEMPORAL_ADDRESS": temporal,
        "RUNBOOK_SIMULATOR_URL": "http://127.0.0.1:9",
        **more,
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web", env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def until(url: str, http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(httpx.TransportError):
                await http.get(url)
                return
            await asyncio.sleep(0.05)


class TestTheProcess:
    async def test_has_two_ports_and_writes_down_what_it_counted_when_it_is_stopped(
        self, sessions: Sessions, vault: Vault, database_url: str, base64_key: str
    ) -> None:
        public, private, nobody = free_ports(3)
        temporal = f"127.0.0.1:{nobody}"
        await add_channel(sessions, vault, secret=SECRET)
        async with sessions.begin() as session:
            await binding.bind(session, database_url, Target(address=temporal, namespace="default"), by="the test")
        ports = {"RUNBOOK_WEB_PORT": str(public), "RUNBOOK_WEB_PRIVATE_PORT": str(private)}
        async with (
            process(database_url, base64_key, temporal, **ports) as web,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            await asyncio.gather(*(until(f"http://127.0.0.1:{port}/healthz", http) for port in (public, private)))
            told = await http.get(f"http://127.0.0.1:{private}/metrics")
            refused = await http.post(f"http://127.0.0.1:{public}/webhooks/simulator/app")
            web.send_signal(signal.SIGTERM)
            await asyncio.wait_for(web.wait(), 10)

        [row] = await every(sessions, WebhookRefusal)
        assert (told.status_code, refused.status_code) == (200, 401)
        assert (row.provider_id, row.channel, row.count) == ("simulator", "app", 1)
        assert web.returncode == 0
