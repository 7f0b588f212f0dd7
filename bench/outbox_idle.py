"""`outbox.idle`: how long a single event waits when there is nothing else to do, from its commit to its projection."""

import asyncio
import random
import time
from collections.abc import Sequence
from statistics import median
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import insert

from bench.result import Result
from bench.stage import Stage
from integrations.db.outbox import enqueue
from integrations.db.tables import Connection

REQUIRED: Final = 1.0
EVENTS: Final = 20
_BOUND: Final = 0.3
_TICK: Final = 0.002
_SEEN: Final = "SELECT event_id FROM service_notification_requests WHERE event_id = any($1)"


async def idle(stage: Stage) -> Sequence[Result]:
    count = max(5, round(EVENTS * stage.scale))
    seen = await stage.watch(_SEEN, _TICK)
    connection_id = await _connection(stage)
    waits = list[float]()
    for _ in range(count):
        await asyncio.sleep(random.uniform(1.2, 1.6))  # noqa: S311 - idle by then, at any point of its rhythm
        event_id = uuid4()
        async with stage.sessions.begin() as session:
            await enqueue(session, connection_id, event_id, "bench.idle", {})
        start = time.perf_counter()
        await seen.seen(event_id)
        waits.append(time.perf_counter() - start)
        stage.advance(1)
    return [
        Result(
            "outbox.idle",
            count,
            1 / median(waits),
            "events/s, one at a time",
            count,
            1 / _BOUND,
            REQUIRED,
            "300 ms: dispatchers look every 400",
        )
    ]


async def _connection(stage: Stage) -> UUID:
    connection_id = uuid4()
    async with stage.sessions.begin() as session:
        await session.execute(
            insert(Connection).values(
                id=connection_id,
                provider_id="simulator",
                scope_type="org",
                scope_id="acme",
                status="active",
                status_reason="connected",
            )
        )
    return connection_id
