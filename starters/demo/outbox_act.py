"""The outbox lags: a worker dies in a backlog. Then some events cannot be projected, until somebody replays them."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import UUID, uuid4

from integrations.db.outbox import enqueue
from integrations.db.tables import Connection
from integrations.domain.connection import Status
from starters.demo import outbox_evidence as evidence
from starters.demo.check import Name
from starters.demo.evidence import rows
from starters.demo.outbox_evidence import Standing, standing
from starters.demo.scene import Scene, until

_CONNECTIONS: Final = 40
_BACKLOG: Final = 100
"""Events of each connection, all in one transaction."""
_KILL_AT: Final = 400
"""Events delivered of it: it is in full swing."""
_LOOK: Final = 0.02
_MEANWHILE: Final = 5
_POISONED: Final = 3
"""Connections with an event that cannot be projected."""
_LATER: Final = 3
_POISON: Final = "connection.provider_account_renamed"
_AFTER_POISON: Final = "connection.looked_at"
_LONGEST: Final = 30
"""What the constraint that somebody adds takes: the name of the poison is longer."""


class LaggingOutbox:
    """The act, step by step. Every event goes in through the front door, `enqueue`."""

    proves: ClassVar[tuple[Name, ...]] = (
        Name.BACKLOG_DRAINED,
        Name.ORDER_KEPT,
        Name.POISON_ISOLATED,
    )

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sessions = scene.sessions
        self._broken = scene.broken
        self._tell = scene.tell
        self._ids: list[UUID] = []

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck; the checks so far are kept."""
        await self._connect()
        await self._kill_in_a_backlog()
        await self._poison_it()

    @property
    def _keys(self) -> list[str]:
        return [str(connection_id) for connection_id in self._ids]

    async def _connect(self) -> None:
        """Connections that have something to tell, and dispatchers that listen: the last worker was killed too."""
        async with self._sessions.begin() as session:
            made = [
                Connection(
                    id=uuid4(),
                    provider_id="simulator",
                    scope_type="org",
                    scope_id="globex",
                    status=Status.DISCONNECTED,
                    status_reason="the demo's: it only has events",
                )
                for _ in range(_CONNECTIONS)
            ]
            session.add_all(made)
        self._ids = [row.id for row in made]
        await self._enqueue("connection.tested", self._ids)
        await until("the dispatchers are at work", self._drained)
        self._scene.workflows["one of four dispatchers"] = "outbox-dispatch:0"

    async def _kill_in_a_backlog(self) -> None:
        await self._enqueue("connection.imported", self._ids * _BACKLOG)
        self._tell(f"an import commits {_CONNECTIONS * _BACKLOG:,} events of {_CONNECTIONS} connections at once")
        await until("the dispatchers are in the middle of it", self._in_the_middle, look=_LOOK)
        code = await self._scene.kill_the_worker("in the middle of it")
        at_death = await standing(self._sessions, self._keys)
        self._tell(f"{at_death.delivered:,} events are projected, {at_death.pending:,} wait; lag {at_death.lag:.1f} s")
        await self._sabotage_the_backlog()
        await self._enqueue("connection.tested", self._ids * _MEANWHILE)
        highest = await self._come_back(at_death)
        await until("the lag is normal again", self._normal)
        self._tell(
            f"the dispatchers are back: 0 wait; the lag was {highest:.1f} s at its worst, and {self._lag:.1f} s now"
        )
        self._scene.checks += [
            await evidence.backlog_drained(self._sessions, self._keys, code, at_death, highest, self._fresh),
            await evidence.order_kept(self._sessions, self._keys),
        ]

    async def _sabotage_the_backlog(self) -> None:
        change = (
            {
                # By somebody's hand: nobody projects it any more.
                Name.BACKLOG_DRAINED: "status = 'delivered'",
                # Its connection's next events come after it, with lower numbers.
                Name.ORDER_KEPT: "seq = seq + 1000000",
            }.get(self._broken)
            if self._broken
            else None
        )
        if change:
            first = "SELECT event_id FROM service_lifecycle_outbox WHERE status = 'pending' ORDER BY id LIMIT 1"
            sql = f"UPDATE service_lifecycle_outbox SET {change} WHERE event_id = ({first}) RETURNING 1 AS n"  # noqa: S608 - ours
            await rows(self._sessions, sql)

    async def _come_back(self, at_death: Standing) -> float:
        """The worker, and then the dispatchers, once Temporal misses their heartbeats. The lag at its worst."""
        starting = asyncio.create_task(self._scene.start_a_worker())
        highest, told = at_death.lag, False

        async def drained() -> bool:
            nonlocal highest, told
            now = await standing(self._sessions, self._keys)
            highest = max(highest, now.lag)
            if starting.done() and not told:
                self._tell(f"another worker is up (pid {starting.result()}); {now.pending:,} wait, lag {now.lag:.1f} s")
                told = True
            return told and not now.pending

        await until("the backlog is drained", drained)
        return highest

    async def _normal(self) -> bool:
        """Whether what is told by every connection is projected at once. Dispatchers come back one by one."""
        self._fresh = await self._enqueue("connection.tested", self._ids)
        await until("fresh events are projected", self._drained, look=_LOOK)
        self._lag = await evidence.slowest(self._sessions, self._fresh)
        return self._lag < evidence.NORMAL

    async def _poison_it(self) -> None:
        await self._ddl(f"ADD CONSTRAINT short_names CHECK (length(name) <= {_LONGEST}) NOT VALID")
        self._tell(f"somebody lets service_activity_entries take names of {_LONGEST} characters, and no longer ones")
        poisoned = self._ids[:_POISONED]
        self._poison = await self._enqueue(_POISON, poisoned)
        await until("they have left the flow", self._pairs("retrying", "dead"))
        if self._broken is Name.POISON_ISOLATED:
            sql = "DELETE FROM service_ledger_holds WHERE item_id = ANY(:ids) RETURNING 1 AS n"
            await rows(self._sessions, sql, ids=self._poison)
        await self._enqueue(_AFTER_POISON, self._ids * _LATER)
        await until("the others are projected", self._others_went_on)
        behind = await self._held()
        self._tell(f"{_POISON} fails on {_POISONED} connections; {behind} later events wait, those of others do not")
        await until("they are given up", self._pairs("dead"))
        await until("what waited for them is projected", self._drained)
        self._tell(f"given up after {self._attempts} attempts; what waited goes on without them")
        isolated = await evidence.poison_isolated(self._sessions, self._poison, _AFTER_POISON, self._attempts)
        self._scene.checks.append(isolated)
        self._scene.workflows["an event that was given up"] = f"outbox:activity:{self._poison[0]}"

    @property
    def _attempts(self) -> int:
        return self._scene.stack.settings.outbox_attempts

    async def _enqueue(self, name: str, connection_ids: Sequence[UUID]) -> list[UUID]:
        """An event for each, in turn, in one transaction. Their ids."""
        made = [uuid4() for _ in connection_ids]
        async with self._sessions.begin() as session:
            for event_id, connection_id in zip(made, connection_ids, strict=True):
                await enqueue(session, connection_id, event_id, name, {"by": "the demo"})
        return made

    async def _ddl(self, change: str) -> None:
        async with self._sessions.begin() as session:
            await (await session.connection()).exec_driver_sql(f"ALTER TABLE service_activity_entries {change}")

    async def _in_the_middle(self) -> bool:
        return (await standing(self._sessions, self._keys)).delivered >= _CONNECTIONS + _KILL_AT

    async def _drained(self) -> bool:
        sql = "SELECT count(*) AS n FROM service_lifecycle_outbox WHERE order_key = ANY(:keys) AND status = ANY(:open)"
        return not await self._count(sql, keys=self._keys, open=["pending", "held", "retrying"])

    async def _others_went_on(self) -> bool:
        sql = "SELECT count(*) AS n FROM service_activity_entries WHERE name = :name AND NOT order_key = ANY(:keys)"
        wanted = (_CONNECTIONS - _POISONED) * _LATER
        return await self._count(sql, name=_AFTER_POISON, keys=self._keys[:_POISONED]) == wanted

    async def _held(self) -> int:
        sql = "SELECT count(*) AS n FROM service_projector_ledger WHERE status = 'held' AND order_key = ANY(:keys)"
        return await self._count(sql, keys=self._keys)

    def _pairs(self, *statuses: str) -> Any:
        async def probe() -> bool:
            sql = (
                "SELECT count(*) AS n FROM service_projector_ledger WHERE event_id = ANY(:ids) AND status = ANY(:these)"
            )
            return await self._count(sql, ids=self._poison, these=list(statuses)) == _POISONED

        return probe

    async def _count(self, sql: str, **told: Any) -> int:
        return int((await rows(self._sessions, sql, **told))[0]["n"])
