"""The bound of `notification`: a plain loop over httpx's API that sends what is written already, and forgets nothing.

The product's transport, a signature by the same package for each message, and one row of the same columns for each
that is sent or given up, a hundred in one COPY. Nothing is claimed: what is on its way when it ends is lost.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import asyncpg
import httpx
from standardwebhooks.webhooks import Webhook

from bench.messages import AUDIENCE, CHANNEL, DEFINITION, SECRET, Written
from integrations.providers.channels.client import make_transport

SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE bench.service_notification_dispatches (LIKE public.service_notification_dispatches INCLUDING ALL);
"""
WIDTH: Final = 8
"""Messages on their way at once: more are no faster."""
ATTEMPTS: Final = 4
WAIT: Final = 0.2
"""Seconds before the second attempt, doubling after that."""
WAITS: Final = tuple(WAIT * 2**n for n in range(ATTEMPTS - 1))
_ROWS: Final = 100
_ADDRESS: Final = uuid4()
_COLUMNS: Final = (
    *("id", "event_id", "address_id", "definition", "recipient", "channel", "part", "due_at", "expires_at"),
    *("version", "status", "attempts", "cause", "fingerprint", "error", "failed_at", "rendered", "history"),
    "settled_at",
)


class Bare:
    def __init__(self, database: "asyncpg.Connection[Any]", http: httpx.AsyncClient, url: str) -> None:
        self._database = database
        self._http = http
        self._url = url
        self._signs = Webhook(SECRET)
        self._rows: list[tuple[Any, ...]] = []
        self._turn = asyncio.Lock()

    async def send(self, messages: Sequence[Written]) -> None:
        left = iter(messages)
        async with asyncio.TaskGroup() as group:
            for _ in range(WIDTH):
                group.create_task(self._sends(left, group))
        await self._write()

    async def _sends(self, left: Iterator[Written], group: asyncio.TaskGroup) -> None:
        for message in left:
            status = await self._post(message)
            if httpx.codes.is_success(status):
                await self._done(message, [])
            else:
                group.create_task(self._sends_again(message, status))

    async def _sends_again(self, message: Written, status: int) -> None:
        history = [_failed(1, status)]
        for attempt, wait in enumerate(WAITS, 2):
            await asyncio.sleep(wait)
            status = await self._post(message)
            if httpx.codes.is_success(status):
                break
            history.append(_failed(attempt, status))
        await self._done(message, history)

    async def _post(self, message: Written) -> int:
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.key,
            "webhook-id": message.key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signs.sign(message.key, now, message.body),
        }
        return (await self._http.post(self._url, content=message.body, headers=headers)).status_code

    async def _done(self, message: Written, history: list[dict[str, Any]]) -> None:
        dead = len(history) == ATTEMPTS
        last = history[-1] if history else None
        error = last["error"] if last else None
        self._rows.append(
            (
                *(message.id, message.event_id, _ADDRESS, DEFINITION, AUDIENCE, CHANNEL, 0),
                *(message.at, message.at + timedelta(days=1), message.version, "dead" if dead else "delivered"),
                *(len(history) + (not dead), error, last and "503", error, last and message.at),
                *(message.rendered if dead else None, json.dumps(history) if history else None, datetime.now(UTC)),
            )
        )
        if len(self._rows) >= _ROWS:
            await self._write()

    async def _write(self) -> None:
        rows, self._rows = self._rows, []
        async with self._turn:
            await self._database.copy_records_to_table(
                "service_notification_dispatches", schema_name="bench", records=rows, columns=_COLUMNS
            )


def _failed(attempt: int, status: int) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    return {"at": at, "attempt": attempt, "by": "a loop", "error": f"HTTP {status}: the receiver answered {status}"}


async def send(dsn: str, url: str, messages: Sequence[Written]) -> None:
    """Until each has its row."""
    database = await asyncpg.connect(dsn)
    try:
        # No timeouts of httpx's: the product has none either.
        async with httpx.AsyncClient(transport=make_transport(), timeout=None, trust_env=False) as http:  # noqa: S113
            await Bare(database, http, url).send(messages)
    finally:
        await database.close()
