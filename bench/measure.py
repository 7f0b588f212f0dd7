"""How a rate is measured: the product and its bound in turns, so that whatever the machine does hits both."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final

TOO_LONG: Final = 120.0
"""Seconds for one item: it is lost, and the benchmark says so instead of waiting for ever."""

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Side:
    """One of the two. `prepare` makes items outside the clock; `act` is what the clock sees."""

    prepare: Callable[[int], Awaitable[Sequence[Any]]]
    act: Callable[[Any], Awaitable[None]]


@dataclass
class Timed:
    """What one side took."""

    spans: list[float] = field(default_factory=list)
    """Seconds of each item."""
    seconds: float = 0.0
    """Of all blocks together."""

    @property
    def n(self) -> int:
        return len(self.spans)

    @property
    def per_second(self) -> float:
        """Throughput."""
        return self.n / self.seconds

    @property
    def one_at_a_time(self) -> float:
        """A latency as a rate: what a second holds of the median item."""
        return 1 / median(self.spans)


@dataclass(frozen=True)
class Plan:
    """How many blocks of how many items, how many of these at once, and how often somebody looks whether they are done.

    `tick`, in seconds, is the same for both sides: short where a latency is measured, longer where the looking itself
    would take the processor away from what is measured.
    """

    blocks: int
    product: int
    bound: int
    at_once: int
    tick: float
    warm_up: int = 5

    def scaled(self, scale: float) -> "Plan":
        product, bound = (max(2, round(n * scale)) for n in (self.product, self.bound))
        return replace(self, product=product, bound=bound, warm_up=min(self.warm_up, product))

    @property
    def items(self) -> int:
        return self.blocks * (self.product + self.bound)


async def in_turns(
    product: Side,
    bound: Side,
    plan: Plan,
    advance: Advance = lambda _: None,
    after: Callable[[int], None] | None = None,
) -> tuple[Timed, Timed]:
    """Run the blocks: product, bound, bound, product, and so on. `after` hears how many of the product's are done."""
    times = Timed(), Timed()
    for side in (product, bound):
        await _block(side, plan.warm_up, plan.at_once, Timed())
    for number in range(plan.blocks):
        turns = [(product, plan.product, times[0]), (bound, plan.bound, times[1])]
        for side, size, timed in turns if number % 2 == 0 else reversed(turns):
            await _block(side, size, plan.at_once, timed)
            advance(size)
        if after is not None:
            after(times[0].n)
    return times


async def _block(side: Side, size: int, at_once: int, timed: Timed) -> None:
    items = iter(await side.prepare(size))

    async def worker() -> None:
        for item in items:
            start = time.perf_counter()
            async with asyncio.timeout(TOO_LONG):
                await side.act(item)
            timed.spans.append(time.perf_counter() - start)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    timed.seconds += time.perf_counter() - start
