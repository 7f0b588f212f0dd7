"""The outbox lags: its worker dies in the middle of a backlog, and comes back."""

import asyncio
from typing import ClassVar, Final

from starters.demo import outbox_evidence as evidence
from starters.demo.check import Name
from starters.demo.connections import Connections
from starters.demo.evidence import rows
from starters.demo.outbox_evidence import Standing, standing
from starters.demo.scene import Scene, until

_CONNECTIONS: Final = 40
_BACKLOG: Final = 100
"""Events of each connection, committed at once."""
_KILL_AT: Final = 400
"""Events of these that are projected by then: it is in full swing."""
_MEANWHILE: Final = 5
"""Events of each connection while nobody drains."""
_LOOK: Final = 0.02
_HARM: Final = {
    # By somebody's hand: nobody projects it any more.
    Name.BACKLOG_DRAINED: "status = 'delivered'",
    # Its connection's next events come after it, with lower numbers.
    Name.ORDER_KEPT: "seq = seq + 1000000",
}
"""Sabotage: what becomes of the oldest event that waits."""


class LaggingOutbox:
    """The act, step by step."""

    proves: ClassVar[tuple[Name, ...]] = (Name.BACKLOG_DRAINED, Name.ORDER_KEPT)

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sessions = scene.sessions
        self._tell = scene.tell

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck."""
        self._connections = await Connections.make(self._sessions, _CONNECTIONS)
        await self._connections.tell("connection.tested")
        # A worker may have been killed just before.
        await until("the dispatchers are at work", self._connections.drained)
        self._scene.workflows["one of the dispatchers"] = "outbox-dispatch:0"
        code, at_death = await self._die_in_a_backlog()
        highest = await self._come_back(at_death)
        await until("the lag is normal again", self._normal)
        self._tell(f"the dispatchers are back: 0 wait; lag {highest:.1f} s at its worst, {self._lag:.1f} s now")
        keys = self._connections.keys
        self._scene.checks += [
            await evidence.backlog_drained(self._sessions, keys, code, at_death, highest, self._fresh),
            await evidence.order_kept(self._sessions, keys),
        ]

    async def _die_in_a_backlog(self) -> tuple[int, Standing]:
        """The worker's exit code, and how the outbox stood at its death."""
        imported = await self._connections.tell("connection.imported", _BACKLOG)
        self._tell(f"an import commits {len(imported):,} events of {len(self._connections)} connections at once")
        await until("the dispatchers are in the middle of it", self._in_the_middle, look=_LOOK)
        code = await self._scene.kill_the_worker("in the middle of it")
        stands = await standing(self._sessions, self._connections.keys)
        self._tell(f"{stands.delivered:,} events are projected, {stands.pending:,} wait; lag {stands.lag:.1f} s")
        if self._scene.broken in _HARM:
            oldest = "SELECT event_id FROM service_lifecycle_outbox WHERE status = 'pending' ORDER BY id LIMIT 1"
            harm = f"UPDATE service_lifecycle_outbox SET {_HARM[self._scene.broken]} WHERE event_id = ({oldest})"  # noqa: S608 - ours
            await rows(self._sessions, f"{harm} RETURNING 1 AS n")
        await self._connections.tell("connection.tested", _MEANWHILE)
        return code, stands

    async def _come_back(self, at_death: Standing) -> float:
        """The worker, and then the dispatchers, once Temporal misses their heartbeats. The lag at its worst."""
        starting = asyncio.create_task(self._scene.start_a_worker())
        highest, told = at_death.lag, False

        async def drained() -> bool:
            nonlocal highest, told
            now = await standing(self._sessions, self._connections.keys)
            highest = max(highest, now.lag)
            if starting.done() and not told:
                self._tell(f"another worker is up (pid {starting.result()}); {now.pending:,} wait, lag {now.lag:.1f} s")
                told = True
            return told and not now.pending

        await until("the backlog is drained", drained)
        return highest

    async def _in_the_middle(self) -> bool:
        stands = await standing(self._sessions, self._connections.keys)
        return stands.delivered >= len(self._connections) + _KILL_AT

    async def _normal(self) -> bool:
        """Whether what each connection tells is projected at once. The dispatchers come back one by one."""
        self._fresh = await self._connections.tell("connection.tested")
        await until("fresh events are projected", self._connections.drained, look=_LOOK)
        self._lag = await evidence.slowest(self._sessions, self._fresh)
        return self._lag < evidence.NORMAL
