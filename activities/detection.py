"""From a detection's row to the lifecycle that handles it. Refreshes, jobs and reconcile all come through here."""

from uuid import UUID

from temporalio import activity
from temporalio.client import Client

from integrations import temporal
from integrations.db import automation, connections
from integrations.db.session import Sessions
from integrations.domain.automation import FailureMode, step_of
from integrations.domain.reauth import Detection, ReauthRequest, Repaired, RepairedElsewhere, Terms


class DetectionActivities:
    def __init__(self, sessions: Sessions, terms: Terms) -> None:
        self._sessions = sessions
        self._terms = terms

    @activity.defn(name="detection.announce")
    async def announce(self, detection: Detection) -> str | None:
        """Signal-with-start the connection's lifecycle. Safe to repeat: the row is handled once. The workflow's id.

        None while the platform may not act by itself: reconcile announces it when it may.
        """
        return await announce(activity.client(), self._sessions, self._terms, detection.detection_id)

    @activity.defn(name="detection.tell_repaired")
    async def tell_repaired(self, told: RepairedElsewhere) -> None:
        """Have the connection's lifecycle look again. Safe to repeat, and nothing when none is open."""
        await temporal.signal_repaired(activity.client(), told.workflow_id, Repaired(by=told.by, reason=told.reason))


async def announce(client: Client, sessions: Sessions, terms: Terms, detection_id: UUID) -> str | None:
    """As the activity does it, for those who are no workflow: a command, whose detection is ordered, or reconcile."""
    async with sessions.begin() as session:
        event, connection, quiet = await connections.detected(session, detection_id)
        step = step_of(event.kind)
        if not event.ordered and not await automation.may(
            session, connection, FailureMode.REAUTH, step, cause=event.cause
        ):
            return None
    given = terms.among(quiet)
    request = ReauthRequest(
        connection_id=connection.id,
        provider_id=connection.provider_id,
        tenant=connection.tenant,
        cause=event.cause,
        patience=given.patience,
        reminding=given.reminding,
    )
    handle = await temporal.signal_detected(client, request, Detection(detection_id=detection_id))
    return handle.id
