"""Finding what fell between two commits, and giving it its next step."""

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.detection import announce
from integrations import temporal
from integrations.db import reconcile
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.domain.connection import reauth_id
from integrations.domain.message import Message
from integrations.domain.reauth import ConsentReceived


class Reconciled(Message):
    """How many of each were found and set going again."""

    detections: int = 0
    consents: int = 0
    lifecycles: int = 0


class ReconcileActivities:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn(name="reconcile.reauth")
    async def reauth(self) -> Reconciled:
        """Restart what lacks a living lifecycle and signal what was never signalled. All of it safe to repeat."""
        client = activity.client()
        return Reconciled(
            detections=await self._detections(client),
            lifecycles=await self._lifecycles(client),
            consents=await self._consents(client),
        )

    async def _detections(self, client: Client) -> int:
        async with self._sessions.begin() as session:
            ids = await reconcile.unhandled_detections(session)
        for detection_id in ids:
            await announce(client, self._sessions, detection_id)
            activity.heartbeat()
        return len(ids)

    async def _lifecycles(self, client: Client) -> int:
        running = {run.id async for run in client.list_workflows(_RUNNING)}
        last, restarted = None, 0
        while True:
            async with self._sessions.begin() as session:
                page = await reconcile.watched_after(session, last)
            for connection in page:
                workflow_id = reauth_id(connection.provider_id, connection.id)
                # The list may lag behind: only the workflow itself can say that it does not live.
                if workflow_id not in running and not await _lives(client, workflow_id):
                    restarted += await self._restart(client, connection)
            activity.heartbeat()
            if len(page) < reconcile.BATCH:
                return restarted
            last = page[-1].id

    async def _restart(self, client: Client, connection: Connection) -> int:
        async with self._sessions.begin() as session:
            detection_id = await reconcile.detect_abandoned(session, connection)
        if detection_id is None:
            return 0
        await announce(client, self._sessions, detection_id)
        activity.logger.warning("lifecycle.restarted", extra={"connection_id": str(connection.id)})
        return 1

    async def _consents(self, client: Client) -> int:
        async with self._sessions.begin() as session:
            waiting = await reconcile.unsignalled_consents(session)
            providers = {row.id: (await session.get_one(Connection, row.connection_id)).provider_id for row in waiting}
        for row in waiting:
            consent = ConsentReceived(session_id=row.id, lifecycle_id=row.lifecycle_id)
            try:
                await temporal.signal_consent(client, reauth_id(providers[row.id], row.connection_id), consent)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
        return len(waiting)


_RUNNING = "WorkflowType = 'ReauthWorkflow' AND ExecutionStatus = 'Running'"


async def _lives(client: Client, workflow_id: str) -> bool:
    try:
        found = await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return found.status is WorkflowExecutionStatus.RUNNING
