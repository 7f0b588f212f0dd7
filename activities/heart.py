"""A heart for steps that wait for somebody else and have nothing to report: a killed worker's is soon taken over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from temporalio import activity

_BEATS: Final = 3
"""Within the heartbeat timeout: two may be late."""


@asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Beat while the step runs, when its policy wants that."""
    within = activity.info().heartbeat_timeout
    heart = asyncio.create_task(_beat(within / _BEATS)) if within else None
    try:
        yield
    finally:
        if heart is not None:
            heart.cancel()


async def _beat(every: timedelta) -> None:
    while True:
        await asyncio.sleep(every.total_seconds())
        activity.heartbeat()
