"""Measuring in turns: what is in the clock, what is not, and in which order."""

import asyncio

import pytest

from bench import measure
from bench.measure import Plan, Side, Timed, in_turns

NOT_IN_THE_CLOCK = 0.3
IN_THE_CLOCK = 0.01


def side(name: str, log: list[str], running: list[int] | None = None) -> Side:
    busy = running if running is not None else [0, 0]

    async def prepare(size: int) -> list[int]:
        await asyncio.sleep(NOT_IN_THE_CLOCK)
        log.append(f"{name}{size}")
        return list(range(size))

    async def act(_: int) -> None:
        busy[0] += 1
        busy[1] = max(busy)
        await asyncio.sleep(IN_THE_CLOCK)
        busy[0] -= 1

    return Side(prepare, act)


class TestInTurns:
    async def test_the_product_and_its_bound_take_turns_after_a_warm_up(self) -> None:
        log: list[str] = []
        plan = Plan(blocks=2, product=3, bound=2, at_once=1, tick=0, warm_up=1)

        product, bound = await in_turns(side("p", log), side("b", log), plan)

        assert log == ["p1", "b1", "p3", "b2", "b2", "p3"]
        assert (product.n, bound.n) == (6, 4)

    async def test_preparing_is_not_in_the_clock(self) -> None:
        plan = Plan(blocks=1, product=2, bound=2, at_once=2, tick=0, warm_up=1)

        product, _ = await in_turns(side("p", []), side("b", []), plan)

        assert IN_THE_CLOCK * 0.9 <= product.seconds < NOT_IN_THE_CLOCK
        assert all(span < NOT_IN_THE_CLOCK for span in product.spans)

    async def test_as_many_are_in_flight_as_the_plan_says(self) -> None:
        running = [0, 0]
        plan = Plan(blocks=1, product=12, bound=1, at_once=4, tick=0, warm_up=1)

        await in_turns(side("p", [], running), side("b", []), plan)

        assert running == [0, 4]

    async def test_one_that_is_lost_fails_the_benchmark(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def for_ever(_: int) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(measure, "TOO_LONG", 0.05)
        lost = Side(side("p", []).prepare, for_ever)

        with pytest.raises(ExceptionGroup):
            await in_turns(lost, side("b", []), Plan(blocks=1, product=1, bound=1, at_once=1, tick=0))


class TestRates:
    def test_throughput_counts_all_blocks_and_a_latency_counts_the_median(self) -> None:
        timed = Timed(spans=[0.1, 0.1, 0.1, 5.0], seconds=2.0)

        assert timed.per_second == 2.0
        assert timed.one_at_a_time == 10.0
