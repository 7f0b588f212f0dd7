"""`outbox.drain`: a burst of events, from their commit until the last is projected by both projectors and settled."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Any, Final

import asyncpg
import psutil

from bench import bare_outbox
from bench.outbox_events import add_events
from bench.result import Result
from bench.stage import Stage
from integrations.domain.ledger import PARTITIONS
from integrations.domain.outbox import BATCH, DISPATCHERS

REQUIRED: Final = 0.6
REQUIRED_10X: Final = 0.85
EVENTS: Final = 100_000
TURNS: Final = 3
MANY: Final = 1_000_000
_LOOK: Final = 0.05
_PENDING: Final = "SELECT EXISTS (SELECT FROM service_lifecycle_outbox WHERE status = 'pending')"
_PROJECTED: Final = """
SELECT (SELECT count(*) FROM {0}.service_activity_entries), (SELECT count(*) FROM {0}.service_notification_requests),
  (SELECT count(*) FROM {0}.service_lifecycle_outbox WHERE status = 'delivered')
"""


async def drain(stage: Stage) -> Sequence[Result]:
    count = max(1000, round(EVENTS * stage.scale))
    database = await asyncpg.connect(stage.dsn)
    await database.execute(bare_outbox.SCHEMA)
    product, bound = list[float](), list[float]()
    await _timed(database, "public", 2000, lambda: drained(database))
    await _timed(database, "bench", 2000, lambda: _bare(stage))
    for turn in range(TURNS):
        sides = [(product, "public", lambda: drained(database)), (bound, "bench", lambda: _bare(stage))]
        for times, schema, act in sides if turn % 2 == 0 else reversed(sides):
            times.append(await _timed(database, schema, count, act))
            stage.advance(count)
    for schema in ("public", "bench"):
        found = await database.fetchrow(_PROJECTED.format(schema))
        assert set(found) == {2000 + TURNS * count}, (schema, found)
    await database.close()
    return [
        Result(
            "outbox.drain",
            TURNS * count,
            count / median(product),
            "events/s, two projectors",
            TURNS * count,
            count / median(bound),
            REQUIRED,
            f"raw asyncpg, {DISPATCHERS} connections, one statement for {BATCH:,}: Postgres itself",
        )
    ]


async def drain_10x(stage: Stage) -> Sequence[Result]:
    few, many = (max(1000, round(n * stage.scale)) for n in (EVENTS, MANY))
    database = await asyncpg.connect(stage.dsn)
    worker = psutil.Process(stage.stack.processes["worker"].pid)
    await _timed(database, "public", 2000, lambda: drained(database))
    at_few = [await _timed(database, "public", few, lambda: drained(database)) for _ in range(2)]
    stage.advance(2 * few)
    before = worker.memory_info().rss
    at_many = await _timed(database, "public", many, lambda: drained(database))
    stage.advance(many)
    after = worker.memory_info().rss
    await database.close()
    return [
        Result(
            "outbox.drain_10x",
            many,
            many / at_many,
            "events/s, two projectors",
            2 * few,
            few / median(at_few),
            REQUIRED_10X,
            "the same drain at a tenth: what the growing tables and their checkpoints cost",
        ),
        Result(
            "outbox.drain_memory",
            many,
            before / 1e6,
            f"MB of the worker after {2 * few:,}",
            many,
            after / 1e6,
            1 / 1.2,
            f"the same worker's memory after {many:,} more",
        ),
    ]


async def _timed(
    database: "asyncpg.Connection[Any]", schema: str, count: int, act: Callable[[], Awaitable[None]]
) -> float:
    await add_events(database, schema, count)
    start = time.perf_counter()
    await act()
    return time.perf_counter() - start


async def drained(database: "asyncpg.Connection[Any]") -> None:
    while await database.fetchval(_PENDING):  # noqa: ASYNC110 - another process sets no event of ours
        await asyncio.sleep(_LOOK)


async def _bare(stage: Stage) -> None:
    await bare_outbox.drain(stage.dsn, connections=DISPATCHERS, size=BATCH, partitions=PARTITIONS)
