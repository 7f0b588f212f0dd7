import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.heart import beating


@pytest.fixture
def beats() -> list[Any]:
    return []


def environment(within: timedelta | None, beats: list[Any]) -> ActivityEnvironment:
    env = ActivityEnvironment()
    env.info = dataclasses.replace(env.info, heartbeat_timeout=within)
    env.on_heartbeat = lambda *details: beats.append(details)
    return env


class TestAHeart:
    async def test_beats_while_the_step_runs_and_not_after(self, beats: list[Any]) -> None:
        three = asyncio.Event()

        async def step() -> None:
            async with beating():
                async with asyncio.timeout(10):
                    while len(beats) < 3:
                        await asyncio.sleep(0.005)
                three.set()

        await environment(timedelta(milliseconds=30), beats).run(step)
        counted = len(beats)
        await asyncio.sleep(0.1)

        assert three.is_set()
        assert len(beats) == counted

    async def test_of_a_step_that_freezes_stops(self, beats: list[Any]) -> None:
        """It beats in the step's own loop: what blocks that one is what has to be noticed."""

        async def step() -> None:
            async with beating():
                await asyncio.sleep(0.05)
                counted = len(beats)
                time_goes_on_without_the_loop()
                assert len(beats) == counted

        def time_goes_on_without_the_loop() -> None:
            import time

            time.sleep(0.1)

        await environment(timedelta(milliseconds=30), beats).run(step)

    async def test_is_not_needed_where_no_policy_wants_it(self, beats: list[Any]) -> None:
        async def step() -> None:
            async with beating():
                await asyncio.sleep(0.05)

        await environment(None, beats).run(step)

        assert beats == []
