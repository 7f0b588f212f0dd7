"""Two workers that share a ledger's partitions. `service_dispatchers` tells which of them has which dispatcher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from integrations.db.dedicated import LOCK_CLASSES
from integrations.domain.ledger import PARTITIONS
from starters.embedded.process import GuardedProcess
from tests.chaos.ground import KILLED, Ground
from tests.chaos.waiting import until

NAMES: Final = ("worker", "another worker")
_SEATS: Final = """
SELECT number FROM service_dispatchers WHERE ledger = :ledger AND running AND worker LIKE :pid || '@%' ORDER BY 1"""
_OWNED: Final = f"""
SELECT count(DISTINCT objid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND classid = {LOCK_CLASSES["outbox"]} AND objsubid = 2
  AND pid <> ALL(cast(:but AS int[]))"""
_SESSIONS: Final = """
SELECT pid FROM pg_stat_activity WHERE application_name = ANY(:names)"""


@dataclass(frozen=True)
class Crew:
    ground: Ground
    ledger: str = "outbox"

    @property
    def processes(self) -> Mapping[str, GuardedProcess]:
        return {name: self.ground.stack.processes[name] for name in NAMES}

    async def kill(self, name: str) -> None:
        """SIGKILL, and return when it is gone."""
        process = self.processes[name]
        process.kill()
        assert await process.wait() == KILLED

    async def bring_back(self, name: str) -> None:
        await self.ground.stack.start_worker(name)

    async def dispatchers_of(self, name: str) -> list[int]:
        """Those that this process has begun, by what it last said."""
        rows = await self.ground.rows(_SEATS, ledger=self.ledger, pid=str(self.processes[name].pid))
        return [row["number"] for row in rows]

    async def who_has(self, number: int) -> str:
        """Wait until somebody has a dispatcher."""
        found: list[str] = []

        async def probe() -> bool:
            found[:] = [name for name in NAMES if number in await self.dispatchers_of(name)]
            return bool(found)

        await until(f"somebody has dispatcher {number} of {self.ledger}", probe)
        return found[0]

    async def busy(self) -> list[str]:
        """Wait until somebody has a dispatcher. Who."""
        found: list[str] = []

        async def probe() -> bool:
            found[:] = [name for name in NAMES if await self.dispatchers_of(name)]
            return bool(found)

        await until("a worker has a dispatcher", probe)
        return found

    async def busiest(self) -> str:
        """Who has the most of them."""
        counts = {name: len(await self.dispatchers_of(name)) for name in await self.busy()}
        return max(counts, key=lambda name: counts[name])

    async def sessions_of(self, name: str) -> list[int]:
        """Process ids, at the server, of the sessions that hold its dispatchers' locks."""
        names = [f"runbook outbox dispatcher {number}" for number in await self.dispatchers_of(name)]
        return [row["pid"] for row in await self.ground.rows(_SESSIONS, names=names)]

    async def own(self, partitions: int = PARTITIONS, *, but: Sequence[int] = (), within: float = 60) -> None:
        """Wait until so many partitions have an owner, as the server sees it. `but`: sessions that do not count."""

        async def probe() -> bool:
            return bool(await self.ground.one(_OWNED, but=list(but)) == partitions)

        await until(f"{partitions} partitions have an owner", probe, within=within)
