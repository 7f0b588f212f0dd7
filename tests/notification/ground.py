"""All that notifications take, on real Postgres and real sockets; without Temporal, whose part a list plays."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from activities.notification_drain import ChannelDrain
from activities.notification_ending import Ending
from activities.notification_message import Composer
from activities.notification_senders import Done, Trouble
from activities.starting import Starting
from integrations.db import contact_addresses
from integrations.db.dedicated import dedicated
from integrations.db.dispatchers import Seat
from integrations.db.notification_expand import Rules
from integrations.db.session import make_sessions
from integrations.db.vault import Vault
from integrations.domain.notification import LEDGER, Definition, part_of
from integrations.domain.notification_delivery import Left, Sending
from integrations.domain.quiet_hours import QuietHours
from integrations.providers.channels.apprise import AppriseChannel
from integrations.providers.channels.channel import Channel
from integrations.providers.channels.client import make_transport
from integrations.providers.channels.webhook import WebhookChannel
from integrations.providers.definitions import Definitions
from integrations.providers.rendering import Renderer
from tests.outbox.events import rows

SIGNING = "whsec_" + "YQ" * 16
AT_ANY_HOUR = QuietHours(starts=0, ends=0)


def definition(**changes: Any) -> Definition:
    return Definition.model_validate(
        {
            "id": "told",
            "events": ("told.*",),
            "audience": "operators.primary",
            "channels": ("webhook", "email", "apprise"),
            "relevant_for": timedelta(days=3),
            "subject": "{{ event.name }}",
            "text": "{{ provider }} of {{ owner }}: {{ payload.n }}",
        }
        | changes
    )


@dataclass
class Ground:
    engine: AsyncEngine
    url: str
    vault: Vault
    definitions: Definitions
    channels: Mapping[str, Channel]
    started: list[Left] = field(default_factory=list)
    leaving: bool = False
    done: Done = field(default_factory=Done)
    trouble: Trouble = field(default_factory=Trouble)

    def __post_init__(self) -> None:
        self.sessions = make_sessions(self.engine)
        self.rules = Rules(
            about=self.definitions.about,
            unready=lambda: {name: why for name, each in self.channels.items() if (why := each.ready())},
            quiet=AT_ANY_HOUR,
        )
        self.composer = Composer(
            self.definitions,
            Renderer(self.definitions),
            self.vault,
            lambda provider_id: provider_id.title(),
            web_url="https://runbook.example",
            zone="UTC",
        )
        self.ending = Ending(self.definitions, self.rules, self.composer)

    async def add_address(
        self, address: str, audience: str = "operators.primary", name: str = "", channel: str = "webhook"
    ) -> None:
        to = self.channels[channel]
        async with self.sessions.begin() as session:
            await contact_addresses.put(
                session,
                self.vault,
                audience=audience,
                name=name,
                channel=channel,
                address=to.check(address),
                secret=SIGNING if channel == "webhook" else "",
                origin=to.origin(address),
                shown=to.masked(address),
                by="the test",
            )

    async def request(self, *names: str) -> None:
        """Requests for all events that have none, as the projector makes them."""
        sql = "INSERT INTO service_notification_requests (event_id, name, order_key, seq) "
        sql += "SELECT event_id, name, order_key, seq FROM service_lifecycle_outbox AS event WHERE NOT EXISTS "
        sql += "(SELECT FROM service_notification_requests AS known WHERE known.event_id = event.event_id) "
        await rows(self.engine, sql + "ORDER BY id RETURNING 1")

    @asynccontextmanager
    async def at(
        self, channel: str = "webhook", *, worker: str = "w", full: int = 20, width: int = 4
    ) -> AsyncIterator[ChannelDrain]:
        async with dedicated(self.url, f"test {channel}") as connection:
            starting = Starting(self._start)
            yield ChannelDrain(
                seat=Seat(LEDGER, part_of(channel), worker),
                connection=connection,
                channel=self.channels[channel],
                rules=self.rules,
                composer=self.composer,
                ending=self.ending,
                starting=starting,
                leaving=lambda: self.leaving,
                done=self.done,
                trouble=self.trouble,
                full=full,
                width=width,
                first_wait=timedelta(seconds=10),
            )
            await starting.done(5)

    async def work(self, channel: str = "webhook", *, until: str, **options: Any) -> Sending:
        """A dispatcher at work until a query says true."""
        self.leaving = False
        async with self.at(channel, **options) as drain:
            working = asyncio.create_task(drain.run(again=False))
            async with asyncio.timeout(20):
                while not working.done() and not (await rows(self.engine, until))[0][0]:
                    await asyncio.sleep(0.02)
            self.leaving = True
            return await working

    async def _start(self, left: Left) -> None:
        self.started.append(left)

    async def statuses(self) -> dict[str, int]:
        found = await rows(self.engine, "SELECT status, count(*) FROM service_notification_dispatches GROUP BY 1")
        return {row.status: row.count for row in found}


IDLE = """SELECT NOT EXISTS (SELECT FROM service_notification_requests WHERE status = 'pending')
  AND NOT EXISTS (SELECT FROM service_notification_dispatches WHERE status IN ('pending', 'processing'))"""


@asynccontextmanager
async def ground(
    engine: AsyncEngine, url: str, vault: Vault, definitions: Sequence[Definition] = ()
) -> AsyncIterator[Ground]:
    async with make_transport() as transport:
        channels: tuple[Channel, ...] = (WebhookChannel(transport, ()), AppriseChannel())
        told = Definitions(definitions or [definition()])
        yield Ground(engine, url, vault, told, {channel.name: channel for channel in channels})
