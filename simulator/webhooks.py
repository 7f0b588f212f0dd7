"""Webhooks that this provider sends: to whom, signed as Standard Webhooks has it, and what was answered."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import httpx
from standardwebhooks.webhooks import Webhook

from simulator.clock import Clock, iso
from simulator.sightings import Sightings
from simulator.store import Store

TIMEOUT_S = 30
STALE = timedelta(hours=1)
"""Older than any application may believe."""
NO_ANSWER = "none"


class How(StrEnum):
    """What is wrong with a delivery."""

    SIGNED = "signed"
    """Nothing."""
    TAMPERED = "tampered"
    """Its body was changed after it was signed."""
    STALE = "stale"
    """It was signed long ago, and rightly."""
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class Delivery:
    webhook_id: str
    type: str
    data: dict[str, Any]
    how: How = How.SIGNED


@dataclass(slots=True)
class OfType:
    """What became of the deliveries of one type, for as long as the process lives."""

    deliveries: int = 0
    webhook_ids: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)

    def view(self) -> dict[str, Any]:
        return {
            "deliveries": self.deliveries,
            "webhook_ids": len(self.webhook_ids),
            "statuses": dict(sorted(self.statuses.items())),
        }


class Webhooks:
    def __init__(self, store: Store, sightings: Sightings, clock: Clock) -> None:
        self._store = store
        self._sightings = sightings
        self._clock = clock
        self._sent: dict[str, OfType] = {}
        self._under_way: set[asyncio.Task[list[str]]] = set()

    def subscribe(self, url: str, secret: str) -> None:
        """Send to this address from now on. Raises ValueError when the secret signs nothing."""
        _signer(secret)
        self._sightings.saw("webhook_secret", secret)
        self._store.run("INSERT OR REPLACE INTO webhook_subscriptions VALUES (?, ?)", (url, secret))

    def subscribers(self) -> list[str]:
        return [row["url"] for row in self._store.rows("SELECT url FROM webhook_subscriptions ORDER BY url")]

    def unsubscribe_all(self) -> int:
        return self._store.run("DELETE FROM webhook_subscriptions")

    def view(self) -> dict[str, Any]:
        return {name: of_type.view() for name, of_type in sorted(self._sent.items())}

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Send one of its own accord, which nobody waits for."""
        task = asyncio.create_task(self.send([Delivery(new_id(), event, data)], senders=1))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def send(self, deliveries: Sequence[Delivery], senders: int) -> list[str]:
        """Send each to every subscriber, so many at a time, in this order. The status of each answer."""
        subscribers = [tuple(row) for row in self._store.rows("SELECT url, secret FROM webhook_subscriptions")]
        waiting = iter([(each, url, _signer(secret)) for each in deliveries for url, secret in subscribers])
        statuses: list[str] = []

        async def sender() -> None:
            # They share the iterator: whoever is free takes the next.
            for delivery, url, signer in waiting:
                statuses.append(await self._send(http, delivery, url, signer))

        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            await asyncio.gather(*(sender() for _ in range(senders)))
        return statuses

    async def _send(self, http: httpx.AsyncClient, delivery: Delivery, url: str, signer: Webhook) -> str:
        now = datetime.fromtimestamp(self._clock.at(datetime.now(UTC).timestamp()), UTC)
        signed_at = now - STALE if delivery.how is How.STALE else now
        body = json.dumps({"type": delivery.type, "timestamp": iso(now.timestamp()), "data": delivery.data})
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.webhook_id,
            "webhook-timestamp": str(int(signed_at.timestamp())),
            "webhook-signature": signer.sign(delivery.webhook_id, signed_at, body),
        }
        if delivery.how is How.UNSIGNED:
            del headers["webhook-signature"]
        if delivery.how is How.TAMPERED:
            body = body.replace('"data": {', '"data": {"tampered": true, ', 1)
        try:
            status = str((await http.post(url, content=body, headers=headers)).status_code)
        except httpx.HTTPError:
            status = NO_ANSWER
        of_type = self._sent.setdefault(delivery.type, OfType())
        of_type.deliveries += 1
        of_type.webhook_ids.add(delivery.webhook_id)
        of_type.statuses[status] += 1
        return status


def new_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def _signer(secret: str) -> Webhook:
    """Raises ValueError when the secret signs nothing."""
    try:
        return Webhook(secret)
    except Exception as error:
        raise ValueError("must be whsec_ and base64") from error
