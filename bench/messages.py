"""What is told in a benchmark: events, the definition that is about them, and the one who is told.

An event's key decides what a flaky receiver does with its message: of each fate there are as many as of any other.
"""

import json
import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from bench.sink import KEYS, fate
from bench.stage import Stage
from integrations.db import contact_addresses
from integrations.domain.notification import Address, News, Outgoing, dispatch_id, idempotency_key
from integrations.providers import catalog, definitions
from integrations.providers.channels.client import make_transport
from integrations.providers.channels.webhook import WebhookChannel, body_of
from integrations.providers.rendering import Renderer

DEFINITION: Final = "bench"
AUDIENCE: Final = "list.bench"
CHANNEL: Final = "webhook"
SECRET: Final = "whsec_" + "YmVuY2gt" * 4
EVENT: Final = "bench.told"
PROVIDER: Final = "simulator"
DEFINITIONS: Final = f"""
[notifications.{DEFINITION}]
events = ["{EVENT}"]
audience = "{AUDIENCE}"
channels = ["{CHANNEL}"]
relevant_for = "1d"
subject = "{{{{ provider }}}}: a token was renewed"
text = '''
Hello,

connection {{{{ connection }}}} of {{{{ owner }}}} at {{{{ provider }}}} was refreshed: {{{{ payload.reason }}}}.

From: {{{{ payload.from }}}}
To: {{{{ payload.to }}}}
When: {{{{ event.occurred_at | date }}}}

There is nothing to do.
'''

[samples."{EVENT}"]
from = "active"
to = "active"
reason = "the token was due"
"""
_PAYLOAD: Final = {"from": "active", "to": "active", "reason": "the token was due"}
_REQUEST: Final = """
WITH event AS (
  INSERT INTO service_lifecycle_outbox (event_id, name, provider_id, scope_type, scope_id, connection_id, order_key,
    part, seq, payload, status, occurred_at)
  SELECT id, $1, $2, $3, $4, id, id::text, 0, 1, $5::jsonb, 'delivered', $6 FROM unnest($7::uuid[]) AS made (id)
  RETURNING event_id, name, order_key, seq
)
INSERT INTO service_notification_requests (event_id, name, order_key, seq)
SELECT event_id, name, order_key, seq FROM event
"""


@dataclass(frozen=True, slots=True)
class Written:
    """A message, and what its row says that is known before it is sent."""

    key: str
    body: str
    id: UUID
    event_id: UUID
    at: datetime
    version: str
    rendered: str
    """What is kept of it should it never arrive."""


def events(count: int) -> list[News]:
    """Each of a connection of its own."""
    occurred_at = datetime.now(UTC)
    met, found = Counter[int](), list[News]()
    while len(found) < count:
        event_id = uuid4()
        its = fate(key_of(event_id))
        if met[its] < count // KEYS:
            met[its] += 1
            found.append(_event(event_id, occurred_at))
    # What is found last is of the fate that came seldom: many failures in a row would mean that the receiver is out.
    random.shuffle(found)
    return found


def key_of(event_id: UUID) -> str:
    return idempotency_key(event_id, DEFINITION, AUDIENCE, CHANNEL)


def _event(event_id: UUID, occurred_at: datetime) -> News:
    return News(
        event_id=event_id,
        name=EVENT,
        occurred_at=occurred_at,
        provider_id=PROVIDER,
        scope_type="org",
        scope_id="acme",
        connection_id=event_id,
        payload=_PAYLOAD,
    )


async def request(database: "asyncpg.Connection[Any]", told: Collection[News]) -> None:
    """Requests that wait to be expanded, committed together with their events: as the outbox's projector makes them."""
    first = next(iter(told))
    event = first.name, first.provider_id, first.scope_type, first.scope_id, json.dumps(first.payload)
    await database.execute(_REQUEST, *event, first.occurred_at, [each.event_id for each in told])


async def receive_at(stage: Stage, url: str) -> None:
    """Have what is told go there from now on."""
    async with make_transport() as transport, stage.sessions.begin() as session:
        channel = WebhookChannel(transport, ())
        await contact_addresses.put(
            session,
            stage.vault,
            audience=AUDIENCE,
            name="",
            channel=CHANNEL,
            address=channel.check(url),
            secret=SECRET,
            origin=channel.origin(url),
            shown=channel.masked(url),
            by="bench",
        )


class Writer:
    """Writes what the product would, ahead of time."""

    def __init__(self, file: Path) -> None:
        known = definitions.load(file)
        self._definition = known.get(DEFINITION)
        self._renderer = Renderer(known)
        self._provider_name = catalog.load().name_of(PROVIDER)

    def written(self, news: News) -> Written:
        rendered = self._renderer.render(self._definition, news, "", "UTC", self._provider_name, html=False)
        to = Address(channel=CHANNEL, recipient=AUDIENCE, name="", address="", secret=SECRET)
        key = key_of(news.event_id)
        return Written(
            key=key,
            body=body_of(Outgoing(key, DEFINITION, news, to, rendered)),
            id=dispatch_id(news.event_id, DEFINITION, AUDIENCE, CHANNEL),
            event_id=news.event_id,
            at=news.occurred_at,
            version=self._definition.version,
            rendered=json.dumps(rendered.kept()),
        )
