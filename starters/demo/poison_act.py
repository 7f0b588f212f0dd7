"""Events that cannot be projected: kept apart, given up, and replayed once their cause is gone."""

from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from integrations import temporal
from integrations.db import replay_plans
from integrations.domain.filters import Filters
from integrations.domain.replay import ReplayRequest
from starters.demo import poison_evidence as evidence
from starters.demo.check import Name
from starters.demo.connections import Connections, count
from starters.demo.evidence import rows
from starters.demo.scene import BY, Scene, outcome_of, until

_CONNECTIONS: Final = 40
_POISONED: Final = 3
"""Of these: fewer in a row than make the projector itself suspect, and more than a replay's first stage."""
_LATER: Final = 3
"""Events of each connection after that."""
_POISON: Final = "connection.provider_account_renamed"
_AFTER: Final = "connection.looked_at"
_LONGEST: Final = 30
"""Characters that the mistaken constraint allows: the poison's name is longer."""


class PoisonedEvents:
    """The act, step by step."""

    proves: ClassVar[tuple[Name, ...]] = (Name.POISON_ISOLATED, Name.DEAD_REPLAYED)

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sessions = scene.sessions
        self._tell = scene.tell

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck; the checks so far are kept."""
        self._connections = await Connections.make(self._sessions, _CONNECTIONS)
        self._poisoned = self._connections.first(_POISONED)
        await self._alter(f"ADD CONSTRAINT short_names CHECK (length(name) <= {_LONGEST}) NOT VALID")
        self._tell(f"a constraint is added by mistake: activity entries whose names have at most {_LONGEST} characters")
        self._poison = await self._poisoned.tell(_POISON)
        await self._isolated()
        await self._replayed()

    async def _isolated(self) -> None:
        await until("they have left the flow", self._are("retrying", "dead"))
        self._scene.workflows["an event that cannot be projected"] = f"outbox:activity:{self._poison[0]}"
        if self._scene.broken is Name.POISON_ISOLATED:
            sql = "DELETE FROM service_ledger_holds WHERE item_id = ANY(:ids) RETURNING 1 AS n"
            await rows(self._sessions, sql, ids=self._poison)
        await self._connections.tell(_AFTER, _LATER)
        await until("what others tell is projected", self._others_go_on)
        self._tell(
            f"{_POISON} fails on {_POISONED} connections: {await self._held()} later events of theirs wait, and none "
            "of others"
        )
        await until("they are given up", self._are("dead"))
        await until("what waited for them is projected", self._connections.drained)
        attempts = self._scene.stack.settings.outbox_attempts
        self._tell(f"given up after {attempts} attempts each; what waited goes on without them")
        self._scene.checks.append(await evidence.poison_isolated(self._sessions, self._poison, _AFTER, attempts))

    async def _replayed(self) -> None:
        if self._scene.broken is not Name.DEAD_REPLAYED:
            await self._alter("DROP CONSTRAINT short_names")
            self._tell("the constraint is dropped")
        fingerprint = (await evidence.dead(self._sessions, self._poison))[0]["fingerprint"]
        async with self._sessions.begin() as session:
            plan = await replay_plans.make(
                session, "outbox", Filters(cause=fingerprint), by=BY, reason="the constraint is dropped"
            )
        self._tell(f"a plan is made of what died of that cause: {plan.count} projections")
        request = ReplayRequest(plan_id=plan.plan_id, ledger="outbox", by=BY, reason="the constraint is dropped")
        handle = await temporal.start_replay(self._scene.platform.temporal, request)
        self._scene.workflows["its replay"] = handle.id
        outcome = await outcome_of(handle)
        self._tell(f"replayed, one of them first and alone; {outcome}")
        self._scene.checks.append(await evidence.dead_replayed(self._sessions, self._poison, plan.plan_id))

    async def _alter(self, change: str) -> None:
        async with self._sessions.begin() as session:
            await (await session.connection()).exec_driver_sql(f"ALTER TABLE service_activity_entries {change}")

    def _are(self, *statuses: str) -> Callable[[], Awaitable[bool]]:
        sql = """SELECT count(*) AS n FROM service_projector_ledger
          WHERE event_id = ANY(:ids) AND projector = 'activity' AND status = ANY(:these)"""

        async def probe() -> bool:
            return await count(self._sessions, sql, ids=self._poison, these=list(statuses)) == _POISONED

        return probe

    async def _others_go_on(self) -> bool:
        sql = "SELECT count(*) AS n FROM service_activity_entries WHERE name = :name AND NOT order_key = ANY(:keys)"
        wanted = (_CONNECTIONS - _POISONED) * _LATER
        return await count(self._sessions, sql, name=_AFTER, keys=self._poisoned.keys) == wanted

    async def _held(self) -> int:
        sql = "SELECT count(*) AS n FROM service_projector_ledger WHERE status = 'held' AND order_key = ANY(:keys)"
        return await count(self._sessions, sql, keys=self._poisoned.keys)
