"""`notification.send` and `notification.flaky`: messages by webhook, from their requests until each has its outcome."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import httpx

from bench import bare_notification as bare
from bench import messages
from bench.result import Result
from bench.sink import ALWAYS, HOST, KEYS, ONCE
from bench.stage import Stage
from starters.embedded.ports import free_port

SEND_REQUIRED: Final = 0.8
FLAKY_REQUIRED: Final = 0.4
SENT: Final = 15_000
"""So many that it does not matter when the dispatcher looked last."""
FLAKY: Final = 2_000
TURNS: Final = 2
_WARM_UP: Final = 2 * KEYS
_LOOK: Final = 0.02
_OPEN: Final = """
SELECT EXISTS (SELECT FROM service_notification_requests WHERE status = 'pending')
  OR EXISTS (SELECT FROM service_notification_dispatches WHERE status = 'pending')
  OR EXISTS (SELECT FROM service_notification_dispatches WHERE status IN ('processing', 'retrying'))
"""
_OUTCOMES: Final = """
SELECT status, count(*) FROM {}.service_notification_dispatches
WHERE definition = $1 GROUP BY status  -- Of what is dead operators are told meanwhile, too.
"""
_WORKFLOWS: Final = "WorkflowType = 'NotificationDeliveryWorkflow'"
_SEEN: Final = 10.0
"""Seconds until Temporal's list shows what was started."""


@dataclass(frozen=True)
class Ground:
    """The product and its bound, and a receiver of what both send."""

    stage: Stage
    database: "asyncpg.Connection[Any]"
    writer: messages.Writer
    sink: str

    async def product(self, box: str, count: int) -> float:
        """Seconds from the commit of so many requests until each message has its outcome."""
        await messages.receive_at(self.stage, f"{self.sink}/{box}/product")
        await messages.request(self.database, messages.events(count))
        start = time.perf_counter()
        while await self.database.fetchval(_OPEN):  # noqa: ASYNC110 - another process sets no event of ours
            await asyncio.sleep(_LOOK)
        return self._took(start, count)

    async def bound(self, box: str, count: int) -> float:
        written = [self.writer.written(news) for news in messages.events(count)]
        start = time.perf_counter()
        await bare.send(self.stage.dsn, f"{self.sink}/{box}/bound", written)
        return self._took(start, count)

    def _took(self, start: float, count: int) -> float:
        took = time.perf_counter() - start
        self.stage.advance(count)
        return took

    async def came(self, box: str, side: str) -> dict[str, int]:
        """What the receiver counted."""
        return dict((await self.stage.http.get(f"{self.sink}/{box}/{side}")).json())

    async def outcomes(self, schema: str) -> dict[str, int]:
        return {
            row["status"]: row["count"]
            for row in await self.database.fetch(_OUTCOMES.format(schema), messages.DEFINITION)
        }


async def send(stage: Stage) -> Sequence[Result]:
    ground = await _prepared(stage)
    count = _whole(SENT * stage.scale)
    product, bound = 0.0, 0.0
    for turn in range(TURNS):
        for side in ("product", "bound") if turn % 2 == 0 else ("bound", "product"):
            if side == "product":
                product += await ground.product("healthy", count)
            else:
                bound += await ground.bound("healthy", count)
    total = _WARM_UP + TURNS * count
    for side, schema in (("product", "public"), ("bound", "bench")):
        assert await ground.outcomes(schema) == {"delivered": total}, schema
        came = await ground.came("healthy", side)
        assert (came["arrivals"], came["accepted"]) == (total, total), came
    assert (await ground.came("healthy", "product"))["size"] == (await ground.came("healthy", "bound"))["size"]
    assert await _workflows(stage, 0) == 0
    await ground.database.close()
    n = TURNS * count
    return [
        Result(
            "notification.send",
            n,
            n / product,
            "messages/s by webhook",
            n,
            n / bound,
            SEND_REQUIRED,
            f"a loop over httpx, {bare.WIDTH} at once, bodies ready, outcomes by COPY",
        )
    ]


async def flaky(stage: Stage) -> Sequence[Result]:
    """One message in a hundred is always refused, ten are refused once. Beside it the same with none refused."""
    ground = await _prepared(
        stage, RUNBOOK_NOTIFY_ATTEMPTS=str(bare.ATTEMPTS), RUNBOOK_NOTIFY_RETRY_FIRST=f"{bare.WAIT * 1000:.0f}ms"
    )
    count = _whole(FLAKY * stage.scale)
    product, healthy, bound = 0.0, 0.0, 0.0
    for turn in range(TURNS):
        for side in ("product", "healthy", "bound") if turn % 2 == 0 else ("bound", "healthy", "product"):
            if side == "product":
                product += await ground.product("flaky", count)
            elif side == "healthy":
                healthy += await ground.product("healthy", count)
            else:
                bound += await ground.bound("flaky", count)
    n = TURNS * count
    dead, once = (n // KEYS * len(fates) for fates in (ALWAYS, ONCE))
    for side, schema, others in (("product", "public", n + _WARM_UP), ("bound", "bench", _WARM_UP)):
        assert await ground.outcomes(schema) == {"delivered": n - dead + others, "dead": dead}, schema
        came = await ground.came("flaky", side)
        assert came["arrivals"] == n + once + dead * (bare.ATTEMPTS - 1), came
        assert (came["keys"], came["accepted"], came["accepted_twice"]) == (n, n - dead, 0), came
    assert await _workflows(stage, dead + once) == dead + once
    await ground.database.close()
    cost = 1000 * (product - healthy) / (dead + once)
    return [
        Result(
            "notification.flaky",
            n,
            n / product,
            f"messages/s, {(dead + once) / n:.0%} fail: {cost:.1f} ms for each of those",
            n,
            n / bound,
            FLAKY_REQUIRED,
            f"the same loop, where each that fails sleeps beside the others, {bare.ATTEMPTS} attempts",
        )
    ]


async def _prepared(stage: Stage, **environment: str) -> Ground:
    file = stage.stack.folder / "bench-definitions.toml"
    file.write_text(messages.DEFINITIONS, encoding="utf-8")
    await stage.restart_worker(RUNBOOK_NOTIFICATIONS=str(file), **environment)
    port = free_port()
    sink = f"http://{HOST}:{port}"

    async def answers() -> bool:
        try:
            return (await stage.http.get(f"{sink}/")).is_success
        except httpx.TransportError:
            return False

    await stage.start("sink", str(port), ready=answers)
    database = await asyncpg.connect(stage.dsn)
    await database.execute(bare.SCHEMA)
    ground = Ground(stage, database, messages.Writer(file), sink)
    await ground.product("healthy", _WARM_UP)
    await ground.bound("healthy", _WARM_UP)
    return ground


async def _workflows(stage: Stage, wanted: int) -> int:
    """How many were ever started: the list lags behind a little."""
    ends = time.monotonic() + _SEEN
    while True:
        found = (await stage.temporal.count_workflows(_WORKFLOWS)).count
        if found >= wanted or time.monotonic() > ends:
            return found
        await asyncio.sleep(_LOOK)


def _whole(count: float) -> int:
    """Of each fate as many."""
    return max(1, round(count / KEYS)) * KEYS
