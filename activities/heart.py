"""A heart for steps that wait for somebody else and have nothing to report: a killed worker's is soon taken over."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

from temporalio import activity

R = TypeVar("R")
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


async def finished(work: Coroutine[Any, Any, R]) -> R:
    """Let a step end what it has begun, also when it is cancelled meanwhile: an answer that is on its way is stored.

    It can see that it is (`activity.is_cancelled`), and begin nothing more.
    """
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise
