"""Finding what fell between two commits, and giving it its next step."""

from collections.abc import Awaitable
from uuid import UUID

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities import parked
from activities.detection import announce
from activities.reconcile_kit import each, is_running
from integrations import temporal
from integrations.db import (
    automation,
    consents,
    dispatchers,
    notification_alert,
    notification_lost,
    outbox_lost,
    reconcile,
    refresh_first,
    replay_plans,
)
from integrations.db.session import Sessions
from integrations.db.tables import NOT_FETCHED, Connection, ConsentSession
from integrations.domain.automation import FailureMode
from integrations.domain.connection import BLOCKED, connection_of, reauth_id
from integrations.domain.message import Message
from integrations.domain.notification import CHANNELS
from integrations.domain.notification_delivery import RETRYING as SENDING
from integrations.domain.notification_delivery import SendRequest
from integrations.domain.outbox import DeliveryRequest, Retrying
from integrations.domain.reauth import ConsentReceived, Repaired, Terms
from integrations.domain.refresh import RefreshRequest
from integrations.observability import scrubbed


class Reconciled(Message):
    """How many of each were found and set going again."""

    detections: int = 0
    consents: int = 0
    lifecycles: int = 0
    ended: int = 0
    deliveries: int = 0
    holds: int = 0
    messages: int = 0
    alerts: int = 0
    webhook_deliveries: int = 0
    """Those whose workflow was lost."""
    first_tokens: int = 0
    parked: int = 0
    """Jobs told to go on, for whom no outage is open that would have told them."""
    calls: int = 0
    """Of providers, old enough to be forgotten."""
    credentials: int = 0
    """Retired ones, as old."""
    forgotten: int = 0
    """Deliveries of webhooks, settled or given up long ago."""
    repeats: int = 0
    """Of these, and refusals, as old."""
    secrets: int = 0
    """Of webhooks, whose overlap with their successor is over."""
    self_tests: int = 0
    """Of webhook channels whose secrets, or whose section of the catalog, had changed."""
    events: int = 0
    """Delivered everywhere long ago, with what was sent of them."""
    outages: int = 0
    """Whose workflow was ended by hand: their brakes are released."""
    queues: int = 0
    """Of providers, that did not let out what the journal of brakes says."""


class ReconcileActivities:
    def __init__(
        self,
        sessions: Sessions,
        terms: Terms,
        retrying: Retrying = Retrying(),
        sending: Retrying = SENDING,
    ) -> None:
        self._sessions = sessions
        self._terms = terms
        self._retrying = retrying
        self._sending = sending

    @activity.defn(name="reconcile.reauth")
    async def reauth(self) -> Reconciled:
        """Restart what lacks a living lifecycle and signal what was never signalled. All of it safe to repeat.

        While the platform may not act by itself, only what people asked for goes on.
        """
        client = activity.client()
        async with self._sessions.begin() as session:
            await automation.forget(session)
            held = await automation.why_not(session, FailureMode.REAUTH) is not None
        running = {run.id async for run in client.list_workflows(_RUNNING)}
        return Reconciled(
            detections=await self._detections(client, ordered_only=held),
            lifecycles=0 if held else await self._lifecycles(client, running),
            consents=await self._consents(client),
            ended=await self._ended(client, running),
            first_tokens=await self._first_tokens(client),
            parked=await self._parked(client),
        )

    @activity.defn(name="reconcile.outbox")
    async def outbox(self) -> Reconciled:
        """Start the dispatchers and replays that do not run, and the attempts that nobody has been at for long.

        The detector of outages too, which is as always on as they are.
        """
        client = activity.client()
        await each([client], temporal.start_detector)
        async with self._sessions.begin() as session:
            numbers = range(await dispatchers.wished(session, "outbox"))
        await each(numbers, lambda number: temporal.start_dispatcher(client, number))
        async with self._sessions.begin() as session:
            lost = await outbox_lost.deliveries(session)
            holds = await outbox_lost.release_orphans(session)
            replays = await replay_plans.begun(session)
        # Joined, where it runs.
        await each(replays, lambda request: temporal.start_replay(client, request))
        return Reconciled(deliveries=await each(lost, lambda found: self._deliver(client, found)), holds=holds)

    @activity.defn(name="reconcile.notifications")
    async def notifications(self) -> Reconciled:
        """Start the channels that do not run, and the attempts at messages that nobody has been at for long.

        Operators are told of those that were given up.
        """
        client = activity.client()
        await each(CHANNELS, lambda channel: temporal.start_channel(client, channel))
        async with self._sessions.begin() as session:
            lost = await notification_lost.deliveries(session)
            holds = await notification_lost.release_orphans(session)
        messages = await each(lost, lambda found: self._send(client, found))
        async with self._sessions.begin() as session:
            alerts = int(await notification_alert.raised(session))
        return Reconciled(messages=messages, holds=holds, alerts=alerts)

    async def _send(self, client: Client, found: notification_lost.Lost) -> None:
        await temporal.start_sending(client, SendRequest(left=found.left, tried=found.attempts, retrying=self._sending))
        async with self._sessions.begin() as session:
            await notification_lost.started(session, found.left)

    async def _deliver(self, client: Client, found: outbox_lost.Lost) -> None:
        # One attempt at least, whatever was used up: the last may have ended with its worker.
        await temporal.start_delivery(
            client, DeliveryRequest(pair=found.pair, tried=found.attempts, retrying=self._retrying)
        )
        async with self._sessions.begin() as session:
            await outbox_lost.started(session, found.pair)

    async def _detections(self, client: Client, *, ordered_only: bool) -> int:
        async with self._sessions.begin() as session:
            ids = await reconcile.unhandled_detections(session, ordered_only=ordered_only)
        return await each(ids, lambda detection_id: self._announce(client, detection_id))

    async def _announce(self, client: Client, detection_id: UUID) -> None:
        if await announce(client, self._sessions, self._terms, detection_id) is not None:
            async with self._sessions.begin() as session:
                await reconcile.announced(session, detection_id)

    async def _lifecycles(self, client: Client, running: set[str]) -> int:
        """Whoever waits for an owner has a living lifecycle, and a blocked connection an open task, or gets them."""
        last, restarted = None, 0
        while True:
            async with self._sessions.begin() as session:
                page = await reconcile.watched_after(session, last)
                untold = await reconcile.without_task(session, [row.id for row in page])
            # A task for a connection that works may be closed by hand, and stays so.
            unseen = {row.id for row in page if row.status in BLOCKED} & untold
            lost = [row for row in page if row.id in unseen or not await self._lives(client, running, row)]
            restarted += await each(lost, lambda row: self._restart(client, row))
            if len(page) < reconcile.BATCH:
                return restarted
            last = page[-1].id

    async def _lives(self, client: Client, running: set[str], row: Connection) -> bool:
        """The list may lag behind: only the workflow itself can say that it does not live."""
        workflow_id = reauth_id(row.provider_id, row.id)
        return workflow_id in running or await is_running(client, workflow_id)

    async def _restart(self, client: Client, connection: Connection) -> None:
        async with self._sessions.begin() as session:
            detection_id = await reconcile.detect_abandoned(session, connection)
        if detection_id is not None:
            await announce(client, self._sessions, self._terms, detection_id)
            activity.logger.warning("lifecycle.restarted", extra={"connection_id": str(connection.id)})

    async def _consents(self, client: Client) -> int:
        async with self._sessions.begin() as session:
            waiting = await reconcile.unsignalled_consents(session)
        return await each(waiting, lambda row: self._tell(client, row))

    async def _tell(self, client: Client, row: ConsentSession) -> None:
        async with self._sessions.begin() as session:
            connection = await session.get_one(Connection, row.connection_id)
        consent = ConsentReceived(session_id=row.id, lifecycle_id=row.lifecycle_id)
        # When its lifecycle has ended, the connection's next one invites afresh, and this session ends with that.
        await _unless_ended(temporal.signal_consent(client, reauth_id(connection.provider_id, connection.id), consent))
        async with self._sessions.begin() as session:
            await consents.told(session, row.id)

    async def _first_tokens(self, client: Client) -> int:
        """Connections that need nobody's consent, added by somebody who died before asking for their token."""
        async with self._sessions.begin() as session:
            rows = await refresh_first.unfetched(session)
        return await each(rows, lambda row: self._fetch(client, row))

    async def _fetch(self, client: Client, row: Connection) -> None:
        request = RefreshRequest(
            connection_id=row.id, provider_id=row.provider_id, tenant=row.tenant, by="reconcile", reason=NOT_FETCHED
        )
        # Joined, where it runs.
        await temporal.start_refresh(client, request)

    async def _parked(self, client: Client) -> int:
        """Safe to leave for the next sweep, and no reason to leave anything else for it."""
        try:
            return await parked.look_after(client, self._sessions, activity.heartbeat)
        except RPCError as error:
            activity.logger.error("reconcile.failed", extra={"why": scrubbed(str(error))})
            return 0

    async def _ended(self, client: Client, running: set[str]) -> int:
        """Lifecycles whose connection was repaired or given up by somebody who died before telling them."""
        ids = [found for found in map(connection_of, running) if found is not None]
        count = 0
        for start in range(0, len(ids), reconcile.BATCH):
            async with self._sessions.begin() as session:
                rows = await reconcile.settled_elsewhere(session, ids[start : start + reconcile.BATCH])
            count += await each(rows, lambda row: self._tell_ended(client, row))
        return count

    async def _tell_ended(self, client: Client, row: Connection) -> None:
        repaired = Repaired(by="ReconcileWorkflow", reason=f"{row.status}: {row.status_reason}")
        await temporal.signal_repaired(client, reauth_id(row.provider_id, row.id), repaired)


async def _unless_ended(signal: Awaitable[None]) -> None:
    try:
        await signal
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


_RUNNING = "WorkflowType = 'ReauthWorkflow' AND ExecutionStatus = 'Running'"
