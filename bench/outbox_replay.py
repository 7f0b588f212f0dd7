"""`outbox.replay`: everything dead, planned and replayed as fast as it goes, against the drain of as many items."""

import time
from collections.abc import Sequence
from statistics import median
from typing import Final

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
EVENTS: Final = 200_000
TURNS: Final = 2
_PROJECTORS: Final = 2
# As if both projectors had refused each of them: nothing is projected, everything is kept.
_KILL: Final = """
WITH gone AS (DELETE FROM service_activity_entries), too AS (DELETE FROM service_notification_requests),
  pairs AS (UPDATE service_projector_ledger SET status = 'dead', attempts = 12, cause = 'Check: it is refused',
    fingerprint = 'bench', error = 'Check: it is refused', failed_at = now(), history = '[]')
UPDATE service_lifecycle_outbox SET status = 'dead'
"""
_LEFT: Final = "SELECT count(*) FROM service_projector_ledger WHERE status <> 'delivered'"


async def replay(stage: Stage) -> Sequence[Result]:
    count = max(1_000, round(EVENTS * stage.scale))
    database = await asyncpg.connect(stage.dsn)
    drains, replays = list[float](), list[float]()
    await drained(database, count)
    for _ in range(TURNS):
        await database.execute(
            "TRUNCATE service_lifecycle_outbox, service_projector_ledger, "
            "service_activity_entries, service_notification_requests"
        )
        drains.append(await drained(database, count))
        stage.advance(count)
        await database.execute(_KILL)
        await database.execute("VACUUM ANALYZE")
        replays.append(await _replayed(stage, count))
        stage.advance(count)
        assert await database.fetchval(_LEFT) == 0
    await database.close()
    return [
        Result(
            "outbox.replay",
            TURNS * count * _PROJECTORS,
            count * _PROJECTORS / median(replays),
            "projections/s, canary and all",
            TURNS * count * _PROJECTORS,
            count * _PROJECTORS / median(drains),
            REQUIRED,
            "the drain of as many",
        )
    ]


async def _replayed(stage: Stage, count: int) -> float:
    """Seconds from the start of the replay to its outcome. Planning it is not among them."""
    async with stage.sessions.begin() as session:
        plan = await replay_plans.make(session, "outbox", Filters(), by="bench", reason="bench")
    assert plan.count == count * _PROJECTORS
    request = ReplayRequest(
        plan_id=plan.plan_id, ledger="outbox", rate=FASTEST, by="bench", reason="bench", approve_above=plan.count
    )
    start = time.perf_counter()
    outcome = await (await temporal.start_replay(stage.temporal, request)).result()
    took = time.perf_counter() - start
    assert outcome.delivered == plan.count, outcome
    return took
