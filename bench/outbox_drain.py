"""`outbox.drain`: a burst of events, from their commit until the last is projected by both projectors and settled."""

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import asyncpg
import psutil

from bench import bare_outbox
from bench.outbox_events import ALL, Kind, add_events
from bench.result import Result
from bench.stage import Stage
from integrations.domain.ledger import PARTITIONS
from integrations.domain.outbox import BATCH, DISPATCHERS

REQUIRED: Final = 0.6
REQUIRED_10X: Final = 0.85
EVENTS: Final = 100_000
TURNS: Final = 2
MANY: Final = 1_000_000
_WARM_UP: Final = 2_000
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
    await drained(database, _WARM_UP)
    await _bare(stage, database, _WARM_UP)
    for turn in range(TURNS):
        for side in (product, bound) if turn % 2 == 0 else (bound, product):
            side.append(await (drained(database, count) if side is product else _bare(stage, database, count)))
            stage.advance(count)
    for schema in ("public", "bench"):
        found = await database.fetchrow(_PROJECTED.format(schema))
        assert set(found) == {_WARM_UP + TURNS * count}, (schema, found)
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
    """A million at once, and the same million a tenth at a time: both from empty tables to full ones."""
    few, many = (max(1000, round(n * stage.scale)) for n in (EVENTS, MANY))
    database = await asyncpg.connect(stage.dsn)
    worker = psutil.Process(stage.stack.processes["worker"].pid)
    await drained(database, _WARM_UP)
    before = worker.memory_info().rss
    at_once = await drained(database, many)
    stage.advance(many)
    after = worker.memory_info().rss
    await emptied(database)
    in_parts = 0.0
    for _ in range(many // few):
        in_parts += await drained(database, few)
        stage.advance(few)
    await database.close()
    return [
        Result(
            "outbox.drain_10x",
            many,
            many / at_once,
            "events/s, two projectors",
            many,
            many / in_parts,
            REQUIRED_10X,
            f"the same drain of {few:,} at a time, as often",
        ),
        Result(
            "outbox.drain_memory",
            many,
            before / 1e6,
            "MB of the worker before",
            many,
            after / 1e6,
            1 / 1.2,
            f"the same worker's memory after {many:,}",
        ),
    ]


async def emptied(database: "asyncpg.Connection[Any]") -> None:
    """The outbox and what was made of it, as new."""
    await database.execute("TRUNCATE service_ledger_holds, " + ", ".join(bare_outbox.TABLES))


async def drained(database: "asyncpg.Connection[Any]", count: int, kind: Kind = ALL) -> float:
    """Seconds from the commit of so many events until none is pending."""
    await add_events(database, count, kind)
    start = time.perf_counter()
    while await database.fetchval(_PENDING):  # noqa: ASYNC110 - another process sets no event of ours
        await asyncio.sleep(_LOOK)
    return time.perf_counter() - start


async def _bare(stage: Stage, database: "asyncpg.Connection[Any]", count: int) -> float:
    await add_events(database, count, schema="bench")
    start = time.perf_counter()
    await bare_outbox.drain(stage.dsn, connections=DISPATCHERS, size=BATCH, partitions=PARTITIONS)
    return time.perf_counter() - start
