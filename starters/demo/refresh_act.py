"""A hundred connections are due while the provider is in trouble; one of them was revoked. Only that one is touched."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final
from uuid import UUID

from integrations.domain.connection import Status
from starters.demo import refresh_evidence as evidence
from starters.demo.check import Name
from starters.demo.evidence import rows
from starters.demo.minted import connect
from starters.demo.scene import BY, Scene, until
from starters.demo.terminal import runbook
from workflows.refresh_sweep import SCHEDULE

_HUNDRED: Final = 100
_STORM: Final = 3.0
"""Seconds: long enough that the sweep meets it a second time."""


class HundredDue:
    """The act, step by step."""

    proves: ClassVar[tuple[Name, ...]] = (Name.STORM_HARMED_NOBODY, Name.REVOKED_FOUND_AMONG_MANY)

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sessions = scene.sessions
        self._tell = scene.tell

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck; the checks so far are kept."""
        # This storm is not to be taken for an outage: that is another story's.
        await runbook(self._scene.stack, "automation", "pause", "outage", "--by", BY, "--reason", "a short storm")
        self._accounts = await connect(self._scene, _HUNDRED, "acme")
        revoked = next(iter(self._accounts))
        if self._scene.broken is not Name.REVOKED_FOUND_AMONG_MANY:
            await self._scene.simulator.revoke(self._accounts[revoked])
        self._tell(f"{_HUNDRED} connections are due for a refresh, and one of their grants was revoked at the provider")
        await self._storm(revoked)
        await self._found(revoked)

    async def _storm(self, revoked: UUID) -> None:
        fault = await self._scene.simulator.fault(kind="status", path="/oauth/token", status=503)
        self._tell("the provider answers 503 to every refresh, and the sweep begins")
        await self._scene.platform.temporal.get_schedule_handle(SCHEDULE).trigger()
        self._scene.workflows["the sweep of a provider in trouble"] = evidence.SWEEP
        await until("the sweep has met the storm", self._has_met_it)
        await asyncio.sleep(_STORM)
        if self._scene.broken is Name.STORM_HARMED_NOBODY:
            await self._force(revoked, Status.PENDING_REAUTH)
        check = await evidence.storm_harmed_nobody(self._scene, self._accounts)
        if self._scene.broken is Name.STORM_HARMED_NOBODY:
            await self._force(revoked, Status.ACTIVE)
        self._scene.checks.append(check)
        self._tell(f"after {_STORM:g} s of it: {await evidence.waits_for(self._scene)}")
        await self._scene.simulator.mend(fault)

    async def _has_met_it(self) -> bool:
        return bool(await evidence.asked(self._scene.simulator, self._accounts))

    async def _found(self, revoked: UUID) -> None:
        self._tell("the storm is over")
        await until("the others are refreshed", self._are_refreshed)
        self._tell("all others are refreshed; what was refused is looked at again after 10 s …")
        if self._scene.broken is not Name.REVOKED_FOUND_AMONG_MANY:
            await until("the revoked one is found", self._is_blocked(revoked))
        self._scene.checks.append(await evidence.revoked_found_among_many(self._scene, self._accounts, revoked))

    async def _are_refreshed(self) -> bool:
        return len(await evidence.versions(self._scene, self._accounts, version=2)) >= _HUNDRED - 1

    def _is_blocked(self, connection_id: UUID) -> Callable[[], Awaitable[bool]]:
        async def probe() -> bool:
            return connection_id in await evidence.blocked(self._scene, self._accounts)

        return probe

    async def _force(self, connection_id: UUID, status: Status) -> None:
        """Sabotage: change the connection's row past every guard."""
        sql = "UPDATE service_connections SET status = :status WHERE id = :id RETURNING 1 AS n"
        await rows(self._sessions, sql, id=connection_id, status=status)
