"""Group commit by itself: what it writes is a list here, and its writer waits for a word."""

import asyncio
import gc
import weakref
from collections.abc import Sequence

import pytest

from integrations.db.together import Together


class Written:
    """Batches, each of which ends when it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self._go = asyncio.Semaphore(0)

    async def write(self, items: Sequence[int]) -> list[str]:
        self.batches.append(list(items))
        await self._go.acquire()
        if 13 in items:
            raise ValueError(items)
        return [str(item) for item in items]

    def let_go(self, batches: int = 1) -> None:
        for _ in range(batches):
            self._go.release()


async def soon() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def asked(together: Together[int, str], *items: int) -> list[asyncio.Task[str]]:
    async def ask(item: int) -> str:
        return await together(item)

    return [asyncio.create_task(ask(item)) for item in items]


async def test_what_comes_meanwhile_goes_with_the_next() -> None:
    written = Written()
    together = Together(written.write)

    tasks = asked(together, 1)
    await soon()
    tasks += asked(together, 2, 3)
    await soon()
    assert written.batches == [[1]]
    written.let_go(2)

    assert await asyncio.gather(*tasks) == ["1", "2", "3"]
    assert written.batches == [[1], [2, 3]]


async def test_no_batch_is_larger_than_it_may_be() -> None:
    written = Written()
    together = Together(written.write, largest=2)
    written.let_go(3)

    assert await asyncio.gather(*asked(together, 1, 2, 3, 4, 5)) == ["1", "2", "3", "4", "5"]
    assert written.batches == [[1, 2], [3, 4], [5]]


async def test_a_batch_that_fails_is_heard_of_by_its_own_alone() -> None:
    written = Written()
    together = Together(written.write, largest=2)
    written.let_go(2)

    first, second, third = await asyncio.gather(*asked(together, 12, 13, 14), return_exceptions=True)

    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    assert third == "14"


async def test_what_failed_is_kept_by_nobody() -> None:
    """Bodies of megabytes would stay until the collector of cycles comes, which comes seldom here."""

    class Item:
        pass

    async def refuse(_: Sequence[Item]) -> list[str]:
        raise ValueError("full")

    together, item = Together(refuse), Item()
    gone = weakref.ref(item)
    gc.disable()
    try:
        asked = asyncio.create_task(together(item))
        del item
        with pytest.raises(ValueError, match="full"):
            await asked
        del asked
        await soon()
        assert gone() is None
    finally:
        gc.enable()


async def test_one_who_is_cancelled_takes_nothing_from_the_others() -> None:
    written = Written()
    together = Together(written.write)
    first, second, third = asked(together, 1, 2, 3)
    await soon()
    second.cancel()
    written.let_go()

    assert (await first, await third) == ("1", "3")
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_one_who_leaves_before_his_batch_begins_takes_his_item_along() -> None:
    """While a database hangs, what has come and gone does not pile up."""
    written = Written()
    together = Together(written.write, largest=2)
    asked(together, 1)
    await soon()
    tasks = asked(together, 2, 3, 4, 5)
    await soon()

    tasks[0].cancel()
    await soon()
    written.let_go(3)

    assert await asyncio.gather(*tasks[1:]) == ["3", "4", "5"]
    assert written.batches == [[1], [3, 4], [5]]


async def test_one_who_comes_when_a_writer_ends_is_not_forgotten() -> None:
    """At each turn of the loop around that moment."""
    for turns in range(6):
        written = Written()
        together = Together(written.write)
        asked(together, 1)
        await soon()
        written.let_go(2)
        for _ in range(turns):
            await asyncio.sleep(0)

        async with asyncio.timeout(1):
            assert await together(2) == "2"
