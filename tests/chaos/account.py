"""A connection of Ada's that works, until its grant is said to be dead."""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from temporalio.client import WorkflowHandle

from integrations import temporal
from integrations.db import connections
from integrations.domain.connection import reauth_id
from integrations.domain.errors import StopError
from integrations.domain.reauth import PATIENCE, Detected, Detection, ReauthRequest
from starters.client import invitation_link
from starters.demo.owner import Owner
from tests.chaos.ground import Ground
from tests.chaos.waiting import until
from workflows.reconcile import SCHEDULE

CAUSE = "the test says that the grant is dead"


@dataclass
class Account:
    ground: Ground
    id: UUID
    version: int = 0
    """The credential's version before the grant died."""
    handle: WorkflowHandle = field(init=False)  # type: ignore[type-arg]
    """The lifecycle under test."""
    codes: int = 0
    """How many codes the provider had seen when the lifecycle began."""

    @classmethod
    async def connected(cls, ground: Ground) -> "Account":
        row = await ground.platform.add("simulator", "org:acme", by="the test")
        account = cls(ground, row.id)
        await account.consent()
        # Its end too: a detection that comes before it would join this lifecycle, and its deadline.
        await ground.platform.temporal.get_workflow_handle(reauth_id("simulator", row.id)).result()
        account.version = await ground.one(
            "SELECT version FROM service_credentials WHERE connection_id = :id AND state = 'active'", id=row.id
        )
        account.codes = len(await ground.provider.codes())
        return account

    async def detect(self) -> UUID:
        """The first of the two commits of a detection: its row."""
        async with self.ground.platform.sessions.begin() as session:
            return await connections.detect(
                session, self.id, Detected.REVOKED, cause=CAUSE, actor="the test", version=self.version
            )

    async def announce(self, detection: UUID, patience: timedelta = PATIENCE) -> None:
        """The second: signal-with-start."""
        request = ReauthRequest(
            connection_id=self.id, provider_id="simulator", tenant="org:acme", cause=CAUSE, patience=patience
        )
        started = await temporal.signal_detected(
            self.ground.platform.temporal, request, Detection(detection_id=detection)
        )
        self.handle = self.ground.platform.temporal.get_workflow_handle(
            reauth_id("simulator", self.id), run_id=started.first_execution_run_id
        )

    async def begin(self, patience: timedelta = PATIENCE) -> None:
        """A lifecycle that waits for its owner."""
        await self.announce(await self.detect(), patience)
        await self.is_("pending_reauth")

    async def link(self) -> str:
        found = ""

        async def invited() -> bool:
            nonlocal found
            # In this order: the link of an invitation that is being answered may be looked up just before the next.
            if await self.open_session() is None:
                return False
            try:
                found, _ = await invitation_link(self.ground.stack.settings, self.ground.platform.sessions, self.id)
            except StopError:  # the lifecycle has not opened yet
                return False
            return True

        await until("an invitation waits for the owner", invited)
        return found

    async def consent(self) -> None:
        """All the way to the status page; what the code brings is seen elsewhere."""
        async with Owner("ada@acme.example", "ada") as ada:
            await ada.consent(await self.link())

    async def open_session(self) -> UUID | None:
        """The invitation that waits for its answer."""
        found = await self.ground.rows(
            "SELECT s.id FROM service_consent_sessions s JOIN service_connections c USING (lifecycle_id)"
            " WHERE c.id = :id AND s.status = 'invited'",
            id=self.id,
        )
        return found[0]["id"] if found else None

    async def is_(self, status: str) -> None:
        async def probe() -> bool:
            sql = "SELECT status FROM service_connections WHERE id = :id"
            return bool(await self.ground.one(sql, id=self.id) == status)

        await until(f"the connection is {status}", probe)

    async def has_stored_tokens(self) -> None:
        """What the last consent brought is on disk, unchecked."""

        async def probe() -> bool:
            sql = "SELECT count(*) FROM service_credentials WHERE connection_id = :id AND state = 'unchecked'"
            return bool(await self.ground.one(sql, id=self.id))

        await until("the tokens are stored", probe)

    async def reconciled(self) -> None:
        """What fell between two commits gets its next step: as the Schedule does each minute, asked for now."""
        # It leaves young rows to whoever wrote them; this one's writer is dead.
        await self.ground.rows(
            "UPDATE service_consent_sessions SET received_at = received_at - interval '1 minute'"
            " WHERE connection_id = :id RETURNING 1",
            id=self.id,
        )
        await self.ground.platform.temporal.get_schedule_handle(SCHEDULE).trigger()

    async def told(self) -> list[str]:
        """The signals in the lifecycle's history."""
        history = await self.handle.fetch_history()
        signals = [event.workflow_execution_signaled_event_attributes for event in history.events]
        return [signal.signal_name for signal in signals if signal.signal_name]

    async def failed_once(self, activity: str) -> None:
        """An attempt of this activity has failed, or was given up, and the next one is due."""

        async def probe() -> bool:
            pending = (await self.handle.describe()).raw_description.pending_activities
            return any(each.activity_type.name == activity and each.attempt > 1 for each in pending)

        await until(f"an attempt of {activity} has failed", probe)
