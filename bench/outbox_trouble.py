"""The outbox in trouble: what a thousand held connections cost the others, and what more dispatchers gain.

Both bring their trouble along as a trigger on the projection, which their bound has as well.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from bench.outbox_drain import drained, emptied
from bench.outbox_events import Kind
from bench.result import Result
from bench.stage import Stage
from integrations.domain.ledger import PARTITIONS, partitions_of

BURST: Final = 54_000
TURNS: Final = 2
SLOW: Final = 2_000
_HELD_REQUIRED: Final = 0.9
_SCALE_REQUIRED: Final = 1.5
_SETTLED: Final = 2.0
_LOOK: Final = 0.1
# One connection in ten fails, among the others: many in a row would mean that the projector itself is broken.
_FAILING: Final = Kind(name="CASE WHEN i % 10 = 0 THEN 'bench.refused' ELSE 'connection.refreshed' END")
_BEHIND: Final = Kind(connections=1_000, which="i % 1000 * 10")
_OTHERS: Final = Kind(connections=9_000, which="i % 9000 / 9 * 10 + 1 + i % 9")
_SLOW: Final = Kind(name="'bench.slow'")
_TRIGGER: Final = """
CREATE OR REPLACE FUNCTION bench_trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does}; RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER bench_trouble BEFORE INSERT ON service_activity_entries
  FOR EACH ROW WHEN (NEW.name = '{name}') EXECUTE FUNCTION bench_trouble();
"""
_RETRYING: Final = "SELECT count(*) FROM service_projector_ledger WHERE status = 'retrying'"
_HELD: Final = "SELECT count(*) FROM service_projector_ledger WHERE status = 'held'"
_SCALED: Final = """
INSERT INTO service_dispatch_scales (ledger, dispatchers, by, reason) VALUES ('outbox', $1, 'bench', 'bench')
ON CONFLICT (ledger) DO UPDATE SET dispatchers = excluded.dispatchers
"""
_DEALT: Final = "SELECT parts FROM service_dispatchers WHERE running AND parts <> '{}' ORDER BY number"


async def held(stage: Stage) -> Sequence[Result]:
    """Bursts of connections that nothing holds, while a tenth of all are held; and the same with nothing held."""
    # Tries at what fails are few once it has failed for long; here they are from the start.
    await stage.restart_worker(RUNBOOK_OUTBOX_RETRY_FIRST="5m")
    database = await asyncpg.connect(stage.dsn)
    await database.execute(_TRIGGER.format(does="RAISE 'it is refused'", name="bench.refused"))
    beside = await _bursts(stage, database)
    failing, behind = await database.fetchval(_RETRYING), await database.fetchval(_HELD)
    assert (failing, behind) == (1_000, 10_000), "they were held all the while"
    await emptied(database)
    await database.execute("DROP TRIGGER bench_trouble ON service_activity_entries")
    await database.execute(_TRIGGER.format(does="RAISE 'it is refused'", name="bench.other"))
    free = await _bursts(stage, database)
    assert await database.fetchval(_RETRYING) == 0
    await database.close()
    n = TURNS * max(2_000, round(BURST * stage.scale))
    return [
        Result(
            "outbox.held",
            n,
            n / beside,
            f"events/s beside {failing:,} held connections",
            n,
            n / free,
            _HELD_REQUIRED,
            f"the same with nothing held; {behind:,} events wait",
        )
    ]


async def _bursts(stage: Stage, database: "asyncpg.Connection[Any]") -> float:
    """Seconds of the others' bursts, after events among which some may fail, and others that may wait for those."""
    burst = max(2_000, round(BURST * stage.scale))
    await drained(database, 10_000, _FAILING)
    await drained(database, 10_000, _BEHIND)
    await asyncio.sleep(_SETTLED)
    await drained(database, burst, _OTHERS)
    seconds = 0.0
    for _ in range(TURNS):
        seconds += await drained(database, burst, _OTHERS)
        stage.advance(burst)
    return seconds


async def scale(stage: Stage) -> Sequence[Result]:
    """A projector that waits 5 ms for each event: by one dispatcher, and by four."""
    count = max(200, round(SLOW * stage.scale))
    database = await asyncpg.connect(stage.dsn)
    await database.execute(_TRIGGER.format(does="PERFORM pg_sleep(0.005)", name="bench.slow"))
    took = {}
    for dispatchers in (4, 1):
        await _deal(database, dispatchers)
        took[dispatchers] = await drained(database, count, _SLOW)
        stage.advance(count)
    await database.close()
    return [
        Result(
            "outbox.scale",
            count,
            count / took[4],
            "events/s by four dispatchers",
            count,
            count / took[1],
            _SCALE_REQUIRED,
            "one dispatcher; a projector that waits 5 ms",
        )
    ]


async def _deal(database: "asyncpg.Connection[Any]", dispatchers: int) -> None:
    """Wait until so many dispatchers have their partitions."""
    await database.execute(_SCALED, dispatchers)
    wanted = [partitions_of(number, dispatchers) for number in range(dispatchers)]
    assert sum(map(len, wanted)) == PARTITIONS
    while [row["parts"] for row in await database.fetch(_DEALT)] != wanted:  # noqa: ASYNC110 - as above
        await asyncio.sleep(_LOOK)
