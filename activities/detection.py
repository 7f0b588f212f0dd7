"""From a detection's row to the lifecycle that handles it. Refreshes, jobs and reconcile all come through here."""

from uuid import UUID

from temporalio import activity
from temporalio.client import Client

from integrations import temporal
from integrations.db import connections
from integrations.db.session import Sessions
from integrations.db.tables import GrantEvent
from integrations.domain.reauth import Detection, ReauthRequest


class DetectionActivities:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn(name="detection.announce")
    async def announce(self, detection: Detection) -> str:
        """Signal-with-start the connection's lifecycle. Safe to repeat: the row is handled once. The workflow's id."""
        return await announce(activity.client(), self._sessions, detection.detection_id)


async def announce(client: Client, sessions: Sessions, detection_id: UUID) -> str:
    """As the activity does it, for those who are no workflow: a command, or reconcile's loop."""
    async with sessions.begin() as session:
        event = await session.get_one(GrantEvent, detection_id)
        connection = await connections.find(session, event.connection_id)
    request = ReauthRequest(
        connection_id=connection.id, provider_id=connection.provider_id, tenant=connection.tenant, cause=event.cause
    )
    handle = await temporal.signal_detected(client, request, Detection(detection_id=detection_id))
    return handle.id
