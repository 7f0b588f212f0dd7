"""The steps of a re-consent that waits: reminders, escalation, and what a person asks of it. Each is safe to repeat."""

from temporalio import activity

from activities.run import this_run
from integrations.db import waiting
from integrations.db.session import Sessions
from integrations.domain.reauth import Extend, Order


class WaitingActivities:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn(name="reauth.remind")
    async def remind(self, order: Order) -> bool:
        """Tell the owner once more. False when no invitation waits, or when this reminder went out before."""
        async with self._sessions.begin() as session:
            return await waiting.remind(session, order)

    @activity.defn(name="reauth.escalate")
    async def escalate(self, order: Order) -> bool:
        """Pass the task on. False when somebody has acknowledged it meanwhile, or put it off."""
        async with self._sessions.begin() as session:
            return await waiting.escalate(session, order)

    @activity.defn(name="reauth.acknowledge")
    async def acknowledge(self, order: Order) -> bool:
        async with self._sessions.begin() as session:
            return await waiting.acknowledge(session, order)

    @activity.defn(name="reauth.extend")
    async def extend(self, order: Extend) -> bool:
        async with self._sessions.begin() as session:
            return await waiting.extend(session, order)

    @activity.defn(name="reauth.snooze")
    async def snooze(self, order: Extend) -> bool:
        async with self._sessions.begin() as session:
            return await waiting.snooze(session, order)

    @activity.defn(name="reauth.disconnect")
    async def disconnect(self, order: Order) -> bool:
        """Give the connection up. False when this lifecycle has no say over it any more."""
        async with self._sessions.begin() as session:
            return await waiting.disconnect(session, order, run=this_run())
