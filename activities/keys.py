"""Sealing everything anew with another key, a bounded piece at a time."""

from typing import Final

from temporalio import activity

from integrations.db import keys
from integrations.db.sealed import advance
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.keys import Left, Pass, ReencryptRequest, ReencryptStep

BATCHES: Final = 10
"""So many batches are one step: a second or so, after which the workflow shows how far it is."""


class KeysActivities:
    def __init__(self, sessions: Sessions, vault: Vault) -> None:
        self._sessions = sessions
        self._vault = vault

    @activity.defn(name="keys.left")
    async def left(self, request: ReencryptRequest) -> Left:
        """Count the rows that are sealed with another key."""
        async with self._sessions.begin() as session:
            return Left(rows=await keys.left(session, request.key_id))

    @activity.defn(name="keys.reencrypt")
    async def reencrypt(self, step: ReencryptStep) -> Pass:
        """Go on with a pass from where it is, or from where a worker was that died with this step in hand.

        Safe to repeat, and to run twice at the same time: a row that was sealed anew is not met again.
        """
        beaten = activity.info().heartbeat_details
        at = Pass.model_validate(beaten[0]) if beaten else step.at
        for _ in range(BATCHES):
            at = await advance(self._sessions, self._vault, step.key_id, at)
            activity.heartbeat(at)
            if at.done:
                break
        return at
