"""What the operators are told does not arrive: tried again, given up with all that was to be said, and replayed."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

from integrations import temporal
from integrations.db import replay_plans
from integrations.domain.filters import Filters
from integrations.domain.replay import ReplayRequest
from starters.demo import notification_evidence as evidence
from starters.demo.check import Name
from starters.demo.connections import Connections
from starters.demo.contacts import INBOX
from starters.demo.evidence import rows
from starters.demo.scene import BY, Scene, outcome_of, until

_MESSAGES: Final = 12
"""Fewer in a row than make where they go to suspect as a whole: each gets a workflow of its own."""
_EVENT: Final = "reauth.declined"
_DEFINITION: Final = "declined"
_REASON: Final = "the operators' inbox works again"


class FailingMessages:
    """The act, step by step."""

    proves: ClassVar[tuple[Name, ...]] = (Name.MESSAGES_GIVEN_UP, Name.MESSAGES_REPLAYED)

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sessions = scene.sessions
        self._tell = scene.tell

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck; the checks so far are kept."""
        self._attempts = self._scene.stack.settings.notify_attempts
        fault = await self._scene.simulator.fault(kind="status", path=f"/inbox/{INBOX}", status=503)
        self._tell("the operators' inbox answers 503 to whatever is posted to it")
        await self._given_up()
        if self._scene.broken is not Name.MESSAGES_REPLAYED:
            await self._scene.simulator.mend(fault)
            self._tell("the inbox takes messages again")
        await self._replayed()

    async def _given_up(self) -> None:
        owners = await Connections.make(self._sessions, _MESSAGES)
        until_then = datetime.now(UTC) + timedelta(days=7)
        self._events = await owners.tell(_EVENT, payload={"until": until_then.isoformat()})
        self._tell(f"{_MESSAGES} owners decline what they were asked for, and the operators are to be told of each")
        await until("each message has left the flow", self._are("retrying", "dead"))
        message = (await evidence.messages(self._sessions, self._events))[0]
        self._scene.workflows["a message that does not arrive"] = evidence.workflow_of(message)
        self._tell(f"none arrives: each of them has a workflow of its own, {self._attempts} attempts in all")
        await until("they are given up", self._are("dead"))
        if self._scene.broken is Name.MESSAGES_GIVEN_UP:
            sql = (
                "UPDATE service_notification_dispatches SET rendered = NULL WHERE event_id = ANY(:ids) RETURNING 1 AS n"
            )
            await rows(self._sessions, sql, ids=self._events)
        _, says = await evidence.status(self._scene)
        self._tell(f"dead, with all that was to be said. runbook notifications status: {says}")
        self._scene.checks.append(await evidence.messages_given_up(self._scene, self._events, self._attempts))

    async def _replayed(self) -> None:
        self._tell(f"runbook notifications explain: {await evidence.explained(self._scene, self._events[0])}")
        dead = (await evidence.messages(self._sessions, self._events))[0]
        async with self._sessions.begin() as session:
            plan = await replay_plans.make(
                session, "notifications", Filters(cause=dead["fingerprint"]), by=BY, reason=_REASON
            )
        self._tell(f"a plan is made of what died of that cause: {plan.count} messages")
        request = ReplayRequest(plan_id=plan.plan_id, ledger="notifications", by=BY, reason=_REASON)
        handle = await temporal.start_replay(self._scene.platform.temporal, request)
        self._scene.workflows["the replay of messages"] = handle.id
        self._tell(f"replayed, one of them first and alone; {await outcome_of(handle)}")
        if self._scene.broken is not Name.MESSAGES_REPLAYED:
            await until("nothing waits any more", self._nothing_waits)
        _, says = await evidence.status(self._scene)
        self._tell(f"runbook notifications status: {says}")
        self._scene.checks.append(await evidence.messages_replayed(self._scene, self._events, plan.plan_id))

    def _are(self, *statuses: str) -> Callable[[], Awaitable[bool]]:
        async def probe() -> bool:
            found = await evidence.messages(self._sessions, self._events)
            return len(found) == _MESSAGES and all(message["status"] in statuses for message in found)

        return probe

    async def _nothing_waits(self) -> bool:
        return await evidence.backlog(self._sessions) == evidence.FINE
