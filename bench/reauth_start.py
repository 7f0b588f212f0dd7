"""`reauth.start`: from a detection's row to a lifecycle that waits for its owner, and what those that wait weigh."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

import psutil

from activities.detection import announce
from bench.bare_reauth import QUEUE, BareOpening
from bench.connections import add_revoked
from bench.measure import Plan, Side, in_turns
from bench.result import Result
from bench.stage import Stage

REQUIRED: Final = 0.8
PLAN: Final = Plan(blocks=20, product=500, bound=100, at_once=50, tick=0.02, warm_up=50)
FEW: Final = 2_000
"""Waiting lifecycles, of the 10,000, at which memory is read first: twice what the worker's cache holds."""
_GROWTH: Final = 1.2
_MEGABYTE: Final = 1_000_000


async def start(stage: Stage) -> Sequence[Result]:
    plan = PLAN.scaled(stage.scale)
    await stage.start_bare("bare_reauth")
    worker = psutil.Process(stage.stack.processes["worker"].pid)
    few = FEW * stage.scale
    weights: dict[int, float] = {}

    def weigh(waiting: int) -> None:
        weights[waiting] = worker.memory_info().rss / _MEGABYTE

    product, bound = await in_turns(await _product(stage, plan), await _bare(stage, plan), plan, stage.advance, weigh)
    at_few = next(weight for waiting, weight in weights.items() if waiting >= few)
    return [
        Result(
            "reauth.start",
            product.n,
            product.per_second,
            f"lifecycles/s, {plan.at_once} at once",
            bound.n,
            bound.per_second,
            REQUIRED,
            "a bare workflow: one activity with one insert, then the wait",
        ),
        Result(
            "reauth.start_memory",
            product.n,
            at_few,
            f"MB of the worker at {few:,.0f} waiting",
            product.n,
            weights[product.n],
            1 / _GROWTH,
            f"the same worker's memory at {product.n:,} waiting",
        ),
    ]


async def _product(stage: Stage, plan: Plan) -> Side:
    sql = "SELECT id FROM service_connections WHERE id = any($1) AND status = 'pending_reauth'"
    waiting = await stage.watch(sql, plan.tick)

    async def prepare(size: int) -> list[tuple[UUID, UUID]]:
        return await add_revoked(stage, size)

    async def act(ids: tuple[UUID, UUID]) -> None:
        connection_id, detection_id = ids
        await announce(stage.temporal, stage.sessions, stage.stack.settings.terms, detection_id)
        await waiting.seen(connection_id)

    return Side(prepare, act)


async def _bare(stage: Stage, plan: Plan) -> Side:
    opened = await stage.watch("SELECT key FROM bench.step WHERE key = any($1) AND name = 'open'", plan.tick)

    async def prepare(size: int) -> list[UUID]:
        return [uuid4() for _ in range(size)]

    async def act(key: UUID) -> None:
        await stage.temporal.start_workflow(BareOpening.run, str(key), id=str(key), task_queue=QUEUE)
        await opened.seen(key)

    return Side(prepare, act)
