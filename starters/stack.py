"""The embedded stack: Postgres, Temporal with its Web UI, the simulator, the web app and a worker, as one thing.

Everything listens on 127.0.0.1 or a unix socket, lives in one data folder, and ends with the process that started it.
"""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from integrations import settings, temporal
from integrations.db import binding, migrate
from integrations.db.session import make_engine, make_sessions
from integrations.settings import Settings
from starters.embedded.keys import keys_file, secret
from starters.embedded.live import clear_live, write_live
from starters.embedded.lock import FolderLock, acquire
from starters.embedded.ports import HOST, choose_ports
from starters.embedded.postgres import Postgres
from starters.embedded.process import Command, GuardedProcess
from starters.embedded.temporal import Temporal, TemporalPorts
from workflows.queues import WORKFLOWS

PORTS: Final = ("temporal", "ui", "temporal-http", "temporal-metrics", "web", "web-private", "simulator", "mail")
_DATABASE: Final = "runbook"
_READY: Final = 60.0
_GRACE: Final = 25.0
"""Seconds: a worker finishes what it has in hand, for at most 20."""

Say = Callable[[str], None]


@dataclass
class Stack:
    """A running stack. Made by `start`, ended by `stop`."""

    folder: Path
    settings: Settings
    environment: dict[str, str]
    simulator_url: str
    _lock: FolderLock
    _postgres: Postgres | None = None
    _temporal: Temporal | None = None
    processes: dict[str, GuardedProcess] = field(default_factory=dict)

    @classmethod
    async def start(
        cls,
        folder: Path,
        *,
        ports: Mapping[str, int | None] | None = None,
        outside: Mapping[str, str] | None = None,
        say: Say = lambda _: None,
    ) -> "Stack":
        """Start everything and return when it is ready.

        `ports`: those asked for by name; the others are free ones, the same as last time where possible.
        `outside`: RUNBOOK_DATABASE_URL and TEMPORAL_* variables that replace an embedded server with a real one, and
        settings that are to be other than usual.
        Raises EmbeddedError when a port or the folder is taken or a server does not come up, and StopError when the
        database and Temporal do not belong together.
        """
        outside = dict(outside or {})
        lock = await asyncio.to_thread(acquire, folder, say=say)
        postgres = server = None
        try:
            chosen = choose_ports(folder, {name: (ports or {}).get(name) for name in PORTS})
            if "RUNBOOK_DATABASE_URL" not in outside:
                say("PostgreSQL …")
                postgres = await Postgres.start(lock)
                await postgres.create_database(_DATABASE)
            if not any(name in outside for name in ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE")):
                say("Temporal and its Web UI …")
                server = await Temporal.start(lock, _temporal_ports(chosen), _attribute_types())
            environment = _environment(folder, chosen, postgres, server) | outside
            config = settings.load(environment={}, live=_as_fields(environment))
            stack = cls(folder, config, environment, f"http://{HOST}:{chosen['simulator']}", lock, postgres, server)
        except BaseException:
            await _stop(server, postgres)
            lock.release()
            raise
        try:
            await stack._prepare()
            say("simulator, web app and worker …")
            await _all(stack.start_simulator(chosen), stack.start_web(), stack.start_worker())
            write_live(folder, stack._live())
        except BaseException:
            await stack.stop()
            raise
        return stack

    async def stop(self) -> None:
        """Stop everything, those who use the servers first. What is in the folder stays."""
        clear_live(self.folder)
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        await _stop(self._temporal, self._postgres)
        self._lock.release()

    async def start_worker(self, name: str = "worker") -> None:
        """Start a worker and return when it polls. One of another name shares the work."""
        process = self._spawn(name, "worker")
        client = await temporal.connect(self.settings)

        async def polls() -> bool:
            described = await client.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(
                    namespace=client.namespace,
                    task_queue=TaskQueue(name=WORKFLOWS),
                    task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
                )
            )
            return any(poller.identity.startswith(f"{process.pid}@") for poller in described.pollers)

        await process.wait_until_ready(polls, _READY)

    async def start_web(self) -> None:
        process = self._spawn("web", "web")
        await process.wait_until_ready(_answers(f"http://{HOST}:{self.settings.web_private_port}/healthz"), _READY)

    async def start_simulator(self, ports: Mapping[str, int]) -> None:
        """Start the other company, which catches the platform's mail, too."""
        at = ("--port", str(ports["simulator"]), "--mail-port", str(ports["mail"]))
        process = self._spawn("simulator", "simulator", *at, "--data", str(self.folder / "simulator.sqlite"))
        await process.wait_until_ready(_answers(f"{self.simulator_url}/healthz"), _READY)

    async def temporal_client(self) -> Client:
        return await temporal.connect(self.settings)

    def logs(self) -> Path:
        return self.folder / "logs"

    def _spawn(self, name: str, module: str, *arguments: str) -> GuardedProcess:
        argv = [sys.executable, "-m", module, *arguments]
        command = Command(name, argv, self.logs() / f"{name}.log", self.environment, grace=_GRACE)
        process = GuardedProcess.start(command, self._lock)
        self.processes[name] = process
        return process

    async def _prepare(self) -> None:
        """The schema, and the binding: both halves of an embedded pair are in this folder, whatever their ports."""
        engine = make_engine(self.settings.sqlalchemy_url, pool_size=1)
        try:
            target = temporal.target(self.settings)
            binding.refuse_remote(self.settings.sqlalchemy_url, target)
            await migrate.upgrade(engine)
            async with make_sessions(engine).begin() as session:
                await binding.bind(session, self.settings.sqlalchemy_url, target, by="runbook up")
        finally:
            await engine.dispose()

    def _live(self) -> dict[str, Any]:
        """What commands in this checkout need to find the stack. The file is readable by its owner alone."""
        return _as_fields(self.environment) | {"environment": self.environment}


async def _all(*starting: Awaitable[None]) -> None:
    """Let all of them come to an end before one's failure stops the stack under the others."""
    for failure in await asyncio.gather(*starting, return_exceptions=True):
        if failure is not None:
            raise failure


def _temporal_ports(chosen: Mapping[str, int]) -> TemporalPorts:
    return TemporalPorts(
        grpc=chosen["temporal"], ui=chosen["ui"], http=chosen["temporal-http"], metrics=chosen["temporal-metrics"]
    )


def _attribute_types() -> dict[str, str]:
    return {key.name: temporal.attribute_type(key) for key in temporal.SEARCH_ATTRIBUTES}


def _environment(
    folder: Path, ports: Mapping[str, int], postgres: Postgres | None, server: Temporal | None
) -> dict[str, str]:
    """What the stack's processes are told. Keys and secrets are made once per folder."""
    web, simulator = f"http://{HOST}:{ports['web']}", f"http://{HOST}:{ports['simulator']}"
    client_secret = secret(folder, "simulator_client_secret", lambda: secrets.token_urlsafe(32))
    told = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        # Nothing of a person's own configuration, unless it is what replaces an embedded server.
        "HOME": os.environ.get("HOME", str(folder)) if server is None else str(folder),
        "PYTHONUNBUFFERED": "1",
        "RUNBOOK_DATA": str(folder),
        "RUNBOOK_KEYS_FILE": str(keys_file(folder)),
        "RUNBOOK_WEB_URL": web,
        "RUNBOOK_WEB_HOST": HOST,
        "RUNBOOK_WEB_PORT": str(ports["web"]),
        "RUNBOOK_WEB_PRIVATE_HOST": HOST,
        "RUNBOOK_WEB_PRIVATE_PORT": str(ports["web-private"]),
        "RUNBOOK_SIMULATOR_URL": simulator,
        "RUNBOOK_SMTP_URL": f"smtp://{HOST}:{ports['mail']}",
        "RUNBOOK_MAIL_FROM": "Integrations <integrations@platform.example>",
        "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID": "runbook",
        "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET": client_secret,
        "SIMULATOR_CLIENT_ID": "runbook",
        "SIMULATOR_CLIENT_SECRET": client_secret,
        "SIMULATOR_REDIRECT_URIS": f"{web}/oauth/callback/simulator",
        "SIMULATOR_LINKS": json.dumps({"Temporal Web UI": server.ui_url} if server else {}),
    }
    if postgres is not None:
        told["RUNBOOK_DATABASE_URL"] = postgres.url(_DATABASE)
    if server is not None:
        told |= {
            "RUNBOOK_TEMPORAL_ADDRESS": server.address,
            "RUNBOOK_TEMPORAL_NAMESPACE": server.namespace,
            "RUNBOOK_TEMPORAL_UI_URL": server.ui_url,
        }
    return told


def _as_fields(environment: Mapping[str, str]) -> dict[str, Any]:
    fields = {name: environment.get(f"RUNBOOK_{name.upper()}") for name in Settings.model_fields}
    return {name: value for name, value in fields.items() if value is not None}


def _answers(url: str) -> Callable[[], Any]:
    async def probe() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
                return (await client.get(url)).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    return probe


async def _stop(server: Temporal | None, postgres: Postgres | None) -> None:
    for each in (server, postgres):
        if each is not None:
            await each.stop()
