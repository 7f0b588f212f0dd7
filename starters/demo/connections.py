"""Connections that have nothing but events to tell. Every event goes in through the front door, `enqueue`."""

from collections.abc import Mapping, Sequence
from typing import Any, Self
from uuid import UUID, uuid4

from integrations.db.outbox import enqueue
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.domain.connection import Status
from starters.demo.evidence import rows

_OPEN = ["pending", "held", "retrying"]


class Connections:
    def __init__(self, sessions: Sessions, ids: Sequence[UUID]) -> None:
        self._sessions = sessions
        self.ids = list(ids)

    @classmethod
    async def make(cls, sessions: Sessions, count: int) -> Self:
        made = [
            Connection(
                id=uuid4(),
                provider_id="simulator",
                scope_type="org",
                scope_id="globex",
                status=Status.DISCONNECTED,
                status_reason="the demo's: it has nothing but events",
            )
            for _ in range(count)
        ]
        async with sessions.begin() as session:
            session.add_all(made)
        return cls(sessions, [row.id for row in made])

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> list[str]:
        """Their events' order keys."""
        return [str(connection_id) for connection_id in self.ids]

    def first(self, count: int) -> Self:
        return type(self)(self._sessions, self.ids[:count])

    async def tell(self, name: str, each: int = 1, payload: Mapping[str, Any] | None = None) -> list[UUID]:
        """So many events of each, in turn, in one transaction. Their ids."""
        made = []
        async with self._sessions.begin() as session:
            for connection_id in self.ids * each:
                made.append(uuid4())
                await enqueue(session, connection_id, made[-1], name, dict(payload or {"by": "the demo"}))
        return made

    async def drained(self) -> bool:
        """Whether all that they told is projected, or given up."""
        sql = "SELECT count(*) AS n FROM service_lifecycle_outbox WHERE order_key = ANY(:keys) AND status = ANY(:open)"
        return not await count(self._sessions, sql, keys=self.keys, open=_OPEN)


async def count(sessions: Sessions, sql: str, **told: Any) -> int:
    """The `n` of a query."""
    return int((await rows(sessions, sql, **told))[0]["n"])
