"""`outbox.replay`: everything dead, planned and replayed as fast as it goes, against the drain of as many events.

Once as after a projector that was broken: its projections are dead. Once as if both had been: twice the work of the
first, and what the drain does for each event, beside finding it.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from bench.outbox_drain import drained
from bench.result import Result
from bench.stage import Stage
from integrations import temporal
from integrations.db import replay_plans
from integrations.domain.filters import Filters
from integrations.domain.replay import ReplayRequest
from integrations.domain.replay_pace import FASTEST

REQUIRED: Final = 0.8
REQUIRED_BOTH: Final = 0.5
EVENTS: Final = 400_000
# Everything is kept of what is dead, but its projection, which never was.
_KILL: Final = """
UPDATE service_projector_ledger SET status = 'dead', attempts = 12, cause = 'Check: it is refused',
  fingerprint = 'bench', error = 'Check: it is refused', failed_at = now(), history = '[]'
WHERE projector = ANY($1) AND position > $2
"""
_DEAD: Final = "UPDATE service_lifecycle_outbox SET status = 'dead' WHERE id > $1"
_NEVER_WAS: Final = """
DELETE FROM {table} USING service_lifecycle_outbox AS event WHERE event.event_id = {table}.event_id AND event.id > $1
"""
_TABLES: Final = {"activity": "service_activity_entries", "notification": "service_notification_requests"}
_LEFT: Final = "SELECT count(*) FROM service_projector_ledger WHERE status <> 'delivered'"


async def replay(stage: Stage) -> Sequence[Result]:
    count = max(1_000, round(EVENTS * stage.scale))
    database = await asyncpg.connect(stage.dsn)
    # Both in tables that are in use already.
    await drained(database, count)
    await database.execute("VACUUM ANALYZE")
    last = await database.fetchval("SELECT max(id) FROM service_lifecycle_outbox")
    drain = count / await drained(database, count)
    stage.advance(count)
    both = count / await _replayed(stage, database, ["activity", "notification"], last)
    stage.advance(count)
    one = count / await _replayed(stage, database, ["activity"], last)
    stage.advance(count)
    await database.close()
    bound = "the drain; of the replay, canaries and outcome too"
    return [
        Result("outbox.replay", count, one, "events/s, dead at one projector", count, drain, REQUIRED, bound),
        Result("outbox.replay_both", count, both, "events/s, dead at both", count, drain, REQUIRED_BOTH, bound),
    ]


async def _replayed(stage: Stage, database: "asyncpg.Connection[Any]", projectors: list[str], last: int) -> float:
    """Seconds from the start of the replay of all after `last` to its outcome. Planning it is not among them."""
    for name in projectors:
        await database.execute(_NEVER_WAS.format(table=_TABLES[name]), last)
    await database.execute(_KILL, projectors, last)
    await database.execute(_DEAD, last)
    await database.execute("VACUUM ANALYZE")
    async with stage.sessions.begin() as session:
        plan = await replay_plans.make(session, "outbox", Filters(), by="bench", reason="bench")
    request = ReplayRequest(
        plan_id=plan.plan_id, ledger="outbox", rate=FASTEST, by="bench", reason="bench", approve_above=plan.count
    )
    start = time.perf_counter()
    outcome = await (await temporal.start_replay(stage.temporal, request)).result()
    took = time.perf_counter() - start
    assert outcome.delivered == plan.count, outcome
    assert await database.fetchval(_LEFT) == 0
    return took
