"""News that is told by webhook or by mail, to whom it goes, and how far it has come."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from integrations.db import contact_addresses
from integrations.db.vault import Vault
from integrations.domain.notification import idempotency_key
from integrations.providers.channels.client import make_transport
from integrations.providers.channels.registry import make
from tests.chaos.ground import Ground
from tests.chaos.waiting import until
from tests.notification.ground import SIGNING
from tests.outbox.events import add_events
from workflows.reconcile import SCHEDULE

DEFINITIONS: Final = str(Path(__file__).with_name("news.toml"))
_ALL: Final = "FROM service_notification_dispatches WHERE definition = :definition AND position > :since"
_OPEN: Final = f"""
SELECT (SELECT count(*) FROM service_lifecycle_outbox WHERE status = 'pending')
  + (SELECT count(*) FROM service_notification_requests WHERE status = 'pending')
  + (SELECT count(*) {_ALL} AND status IN ('pending', 'processing', 'held', 'retrying'))"""
_LATE: Final = f"""
UPDATE service_notification_dispatches SET lease_until = now() - interval '1 second'
WHERE id IN (SELECT id {_ALL}) AND (token = ANY(:tokens) OR token IS NULL AND status = 'retrying') RETURNING 1"""
_COUNTS: Final = f"SELECT status, count(*) {_ALL} GROUP BY status"
_DISPATCHES: Final = f"SELECT id, event_id, definition, recipient, channel, token, status, attempts {_ALL}"


@dataclass(frozen=True)
class Dispatch:
    id: UUID
    key: str
    token: UUID | None
    """Of whoever has it in hand."""
    status: str
    attempts: int

    @property
    def workflow_id(self) -> str:
        return f"notification:news:{self.id}"


@dataclass
class News:
    """Of one definition, since this was made."""

    ground: Ground
    definition: str = "news"
    _since: int = field(default=0, init=False)
    _told: int = field(default=0, init=False)

    async def goes_to(self, address: str, by: str = "webhook") -> None:
        """In place of wherever it went before."""
        self._since = await self.ground.one("SELECT coalesce(max(position), 0) FROM service_notification_dispatches")
        settings = self.ground.stack.settings
        async with make_transport() as http, self.ground.platform.sessions.begin() as session:
            channel = make(settings, http)[by]
            await contact_addresses.put(
                session,
                Vault(settings.keys),
                audience=f"list.{self.definition}",
                name="",
                channel=channel.name,
                address=channel.check(address),
                secret=SIGNING if by == "webhook" else "",
                origin=channel.origin(address),
                shown=channel.masked(address),
                by="the test",
            )

    async def tell(self, count: int) -> None:
        """Events of as many connections."""
        engine = self.ground.platform.sessions.kw["bind"]
        first = await self.ground.one("SELECT count(*) FROM service_lifecycle_outbox")
        await add_events(engine, count, name=f"told.{self.definition}", connections=count, first=first)
        self._told += count

    async def counts(self) -> dict[str, int]:
        """How many messages there are in each state."""
        return {row["status"]: row["count"] for row in await self.ground.rows(_COUNTS, **self._where)}

    async def workflows(self) -> set[str]:
        """The ids of those that there were."""
        wanted = {each.workflow_id for each in await self.dispatches()}
        found = self.ground.platform.temporal.list_workflows("WorkflowType = 'NotificationDeliveryWorkflow'")
        return wanted & {run.id async for run in found}

    async def dispatches(self) -> list[Dispatch]:
        return [_dispatch(row) for row in await self.ground.rows(_DISPATCHES, **self._where)]

    async def in_hand(self) -> list[Dispatch]:
        """What somebody has claimed and not settled."""
        return [each for each in await self.dispatches() if each.token is not None]

    async def a_minute_later(self, lost: Iterable[Dispatch] = ()) -> None:
        """What fell between two commits gets its next step: as leases and the Schedule do, without the waiting.

        `lost`: what was in hand of those that are dead.
        """
        await self.ground.rows(_LATE, tokens=[each.token for each in lost], **self._where)
        await self.ground.platform.temporal.get_schedule_handle(SCHEDULE).trigger()

    async def has(self, count: int, *statuses: str, within: float = 60) -> None:
        """Wait until there are so many in these states, or more."""

        async def probe() -> bool:
            found = await self.counts()
            return sum(found.get(status, 0) for status in statuses) >= count

        await until(f"{count} messages are {' or '.join(statuses)}", probe, within=within)

    async def ends(self, *, within: float = 120) -> dict[str, int]:
        """Wait until nothing is on its way any more. How many there are in each state: all that was told of."""

        async def probe() -> bool:
            return bool(await self.ground.one(_OPEN, **self._where) == 0)

        try:
            await until("everything has been told, or is dead", probe, within=within)
        except AssertionError as vain:
            raise AssertionError(f"{vain}: {await self.counts()}") from None
        found = await self.counts()
        assert sum(found.values()) == self._told
        return found

    @property
    def _where(self) -> dict[str, Any]:
        return {"definition": self.definition, "since": self._since}


def _dispatch(row: dict[str, Any]) -> Dispatch:
    key = idempotency_key(row["event_id"], row["definition"], row["recipient"], row["channel"])
    return Dispatch(row["id"], key, row["token"], row["status"], row["attempts"])
