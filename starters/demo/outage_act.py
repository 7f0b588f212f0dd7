"""The provider answers 503 to everything in the middle of an ordinary day, and heals. Nobody presses anything."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

import httpx

from integrations.db import outage_status
from integrations.db.outage_explain import explained
from integrations.domain.connection import Status
from integrations.domain.outage import OutageResult, outage_id
from integrations.domain.outage_chart import chart
from integrations.task_queues import Rates, limit
from starters.demo import outage_evidence as evidence
from starters.demo.check import Name
from starters.demo.drawing import Drawing
from starters.demo.evidence import rows
from starters.demo.minted import connect
from starters.demo.scene import Scene, StoryError, outcome_of, until
from starters.demo.terminal import runbook
from starters.demo.traffic import RATE, Traffic
from workflows.queues import provider_queue

_OWNERS: Final = ("acme", "globex", "initech")
_EACH: Final = 20
"""Connections of each."""
_BEFORE: Final = 10.0
"""Seconds of an ordinary day that are watched."""
_UNDER: Final = 5.0
"""Seconds that it stays down once it is contained."""
_LATE: Final = 30.0
"""Seconds that jobs may take once it is over."""
_BROKEN: Final = ["/api/", "/oauth/"]
_PROVIDER: Final = "simulator"


class ProviderDown:
    """The act, step by step."""

    proves: ClassVar[tuple[Name, ...]] = (
        Name.OUTAGE_CONTAINED,
        Name.OUTAGE_HARMED_NOBODY,
        Name.OUTAGE_HEALED,
        Name.PARKED_DONE_ONCE,
    )

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sessions = scene.sessions
        self._tell = scene.tell

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck; the checks so far are kept."""
        await self._resume()
        accounts = await connect(self._scene, _EACH, *_OWNERS, due_in=timedelta(days=1))
        self._ids = list(accounts)
        traffic = Traffic(self._scene, self._ids)
        async with traffic.flowing():
            self._began = datetime.now(UTC)
            self._tell(f"an ordinary day: {len(accounts)} connections of {len(_OWNERS)} owners, {RATE:g} jobs a second")
            await asyncio.sleep(_BEFORE)
            await self._breaks()
            await self._heals(traffic)
        await self._ends(traffic)

    async def _resume(self) -> None:
        """Whatever an earlier story paused; what was only observed meanwhile is over first."""
        await runbook(self._scene.stack, "automation", "resume", "outage", "--by", "demo")

        async def quiet() -> bool:
            return not await rows(self._sessions, "SELECT id FROM service_outages WHERE closed_at IS NULL")

        await until("no outage is open", quiet)

    async def _breaks(self) -> None:
        self._broken_at = datetime.now(UTC)
        self._fault = await self._scene.simulator.fault(kind="status", status=503, path=_BROKEN)
        self._tell("the provider answers 503 to everything")
        await until("it is contained", self._is_contained)
        contained_at = datetime.now(UTC)
        self._scene.workflows["the outage"] = outage_id(_PROVIDER)
        took = (contained_at - self._broken_at).total_seconds()
        [found] = await rows(self._sessions, "SELECT reason FROM service_outages WHERE closed_at IS NULL")
        self._tell(f"contained after {took:.1f} s: {found['reason']}; jobs wait, and nobody is demoted")
        settled = contained_at + timedelta(seconds=1)
        meanwhile = [asyncio.sleep(_UNDER), self._looks()]
        meanwhile += [self._strangers()] if self._broken(Name.OUTAGE_CONTAINED) else []
        await asyncio.gather(*meanwhile)
        check = await evidence.contained(self._scene, self._began, self._broken_at, settled, took)
        self._scene.checks.append(check)
        await self._nobody_harmed()

    async def _looks(self) -> None:
        """What whoever is on call sees of it."""
        code, status = await runbook(self._scene.stack, "status")
        line = next((line for line in status.splitlines() if line.startswith("outage ")), status[-300:])
        self._tell(f"runbook status (exit code {code}): {' '.join(line.split())}")

    async def _nobody_harmed(self) -> None:
        sabotaged = self._broken(Name.OUTAGE_HARMED_NOBODY)
        if sabotaged:
            await self._force(Status.PENDING_REAUTH)
        self._scene.checks.append(await evidence.harmed_nobody(self._scene, self._ids))
        if sabotaged:
            await self._force(Status.ACTIVE)

    async def _heals(self, traffic: Traffic) -> None:
        # Who asks from now on does not lose patience: what was parked is replayed once.
        traffic.patience = None
        await self._scene.simulator.mend(self._fault)
        self._tell("the provider is well again; nobody has told the platform")
        await until("everything is let through again", self._is_let_through)
        parked = (await rows(self._sessions, "SELECT count(*) AS n FROM service_parked_jobs"))[0]["n"]
        self._tell(f"step by step everything is let through again; {parked} jobs that were parked go on")

    async def _ends(self, traffic: Traffic) -> None:
        handle = self._scene.platform.temporal.get_workflow_handle(outage_id(_PROVIDER), result_type=OutageResult)
        self._result = await outcome_of(handle)
        self._tell(f"{self._result.ended}: {self._result.why}")
        try:
            async with asyncio.timeout(_LATE):
                results = await traffic.results()
        except TimeoutError:
            raise StoryError(f"of {len(traffic.started)} jobs some did not end within {_LATE:g} s") from None
        if self._broken(Name.OUTAGE_HEALED):
            rates = Rates(queue=1.0)
            await limit(self._scene.platform.temporal, provider_queue(_PROVIDER), rates, reason="sabotage")
        self._scene.checks.append(await evidence.healed(self._scene, self._result))
        if self._broken(Name.PARKED_DONE_ONCE):
            await rows(self._sessions, "UPDATE service_parked_jobs SET outcome = 'lost' RETURNING 1 AS n")
        self._scene.checks.append(await evidence.parked_done_once(self._scene, self._began, traffic.written, results))
        self._scene.drawings.append(await self._drawn())

    async def _drawn(self) -> Drawing:
        async with self._sessions.begin() as session:
            standing = await outage_status.one(session, self._result.outage_id)
        assert standing is not None
        told = await explained(self._sessions, standing)
        seen = await self._scene.simulator.calls(told.start)
        moments = [(datetime.fromisoformat(each["at"]), each["status"]) for each in seen]
        return Drawing(
            title="How the outage was contained and brought back",
            start=told.start,
            end=told.end,
            lines=chart(told),
            steps=told.steps,
            calls=[at for at, _ in moments],
            failed=[at for at, status in moments if status == evidence.TROUBLE],
        )

    async def _is_contained(self) -> bool:
        sql = "SELECT 1 AS n FROM service_mitigations WHERE brake = 'shield' AND released_at IS NULL"
        return bool(await rows(self._sessions, sql))

    async def _is_let_through(self) -> bool:
        sql = "SELECT 1 AS n FROM service_outages WHERE step IN ('replay', 'validate') OR closed_at > :since"
        return bool(await rows(self._sessions, sql, since=self._began))

    async def _strangers(self) -> None:
        """Sabotage: calls that go past the platform."""
        async with httpx.AsyncClient(base_url=self._scene.stack.simulator_url, trust_env=False) as http:
            for _ in range(int(RATE * _UNDER)):
                await http.get("/api/notes")
                await asyncio.sleep(1 / RATE / 2)

    def _broken(self, name: Name) -> bool:
        return self._scene.broken is name

    async def _force(self, status: Status) -> None:
        """Sabotage: change a connection's row past every guard."""
        sql = "UPDATE service_connections SET status = :status WHERE id = :id RETURNING 1 AS n"
        await rows(self._sessions, sql, id=self._ids[0], status=status)
