"""A whole stack of its own that may be shot at, and the means to do so and to look at it from outside."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from integrations import temporal
from integrations.db.vault import Vault
from starters.client import Platform
from starters.demo.evidence import rows
from starters.embedded.files import last_lines
from starters.embedded.postgres import Postgres
from starters.embedded.process import GuardedProcess
from starters.embedded.temporal import Temporal
from starters.stack import Stack
from tests.chaos.provider import Provider

KILLED = 137
"""128 + SIGKILL, as the guard tells it."""


class Victim(StrEnum):
    WORKER = "worker"
    WEB = "web"
    TEMPORAL = "temporal"


@dataclass(frozen=True)
class Ground:
    stack: Stack
    platform: Platform
    provider: Provider

    @property
    def vault(self) -> Vault:
        return Vault(self.stack.settings.keys)

    async def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        return await rows(self.platform.sessions, sql, **values)

    async def one(self, sql: str, **values: Any) -> Any:
        """The one value that a query gives."""
        (row,) = await self.rows(sql, **values)
        (value,) = row.values()
        return value

    async def connect(self) -> "asyncpg.Connection":
        return await asyncpg.connect(self.stack.settings.sqlalchemy_url.replace("+asyncpg", ""))

    async def kill(self, victim: Victim) -> None:
        """SIGKILL, and return when it is gone."""
        await _shoot(self._process(victim))

    async def bring_back(self, victim: Victim) -> None:
        """Start it again where it was: same folder, same file, same ports. Return when it answers."""
        if victim is Victim.WORKER:
            await self.stack.start_worker()
        elif victim is Victim.WEB:
            await self.stack.start_web()
        else:
            server = self.stack._temporal
            assert server is not None
            types = {key.name: temporal.attribute_type(key) for key in temporal.SEARCH_ATTRIBUTES}
            self.stack._temporal = await Temporal.start(self.stack._lock, server.ports, types)

    async def stop_temporal(self) -> None:
        assert self.stack._temporal is not None
        await self.stack._temporal.stop()

    async def kill_postgres(self) -> None:
        assert self.stack._postgres is not None
        await _shoot(self.stack._postgres.process)

    async def stop_postgres(self) -> None:
        """As an operator would: sessions are ended, what they had begun is rolled back."""
        assert self.stack._postgres is not None
        await self.stack._postgres.stop()

    async def bring_postgres_back(self) -> None:
        self.stack._postgres = await Postgres.start(self.stack._lock)

    def died(self) -> dict[str, str]:
        """Who ended by itself, with its last words: nobody has to be restarted but those who were killed."""
        dead = {name: process for name, process in self.stack.processes.items() if not process.alive()}
        return {
            name: f"exit code {process.exit_code}\n{last_lines(process.command.log)}" for name, process in dead.items()
        }

    def _process(self, victim: Victim) -> GuardedProcess:
        if victim is Victim.TEMPORAL:
            assert self.stack._temporal is not None
            return self.stack._temporal.process
        return self.stack.processes[victim]


async def _shoot(process: GuardedProcess) -> None:
    process.kill()
    assert await process.wait() == KILLED
