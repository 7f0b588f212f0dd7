"""What a benchmark sends, and how its receiver answers."""

from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest_asyncio
from aiohttp.test_utils import RawTestServer, TestClient

from bench.messages import events, key_of
from bench.sink import ALWAYS, KEYS, ONCE, Sink, fate

KEYS_OF = {fate(key): key for key in (f"ntf_{number:032x}" for number in range(KEYS))}


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[TestClient[aiohttp.web.BaseRequest, None]]:
    async with TestClient(RawTestServer(Sink().answer)) as client:
        yield client


class TestEvents:
    def test_are_as_many_of_each_fate(self) -> None:
        assert Counter(fate(key_of(news.event_id)) for news in events(3 * KEYS)) == dict.fromkeys(range(KEYS), 3)


class TestTheReceiver:
    async def test_refuses_some_keys_always_and_some_once(
        self, receiver: "TestClient[aiohttp.web.BaseRequest, None]"
    ) -> None:
        answers = {
            its: [(await receiver.post("/flaky/here", headers={"Idempotency-Key": key})).status for _ in range(3)]
            for its, key in KEYS_OF.items()
        }

        assert {its for its, got in answers.items() if got == [503, 503, 503]} == set(ALWAYS)
        assert {its for its, got in answers.items() if got == [503, 202, 202]} == set(ONCE)
        assert (len(ALWAYS), len(ONCE), sum(got == [202, 202, 202] for got in answers.values())) == (1, 10, 89)

    async def test_counts_what_came_to_each_address(
        self, receiver: "TestClient[aiohttp.web.BaseRequest, None]"
    ) -> None:
        for path, key in (("/healthy/a", KEYS_OF[0]), ("/healthy/a", KEYS_OF[0]), ("/healthy/b", KEYS_OF[1])):
            await receiver.post(path, data=b"12345", headers={"Idempotency-Key": key})

        told = await (await receiver.get("/healthy/a")).json()

        assert told == {"arrivals": 2, "keys": 1, "accepted": 1, "accepted_twice": 1, "size": 10}
