"""Waiting for what happens in another process: a condition and a generous limit, never a time."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(what: str, probe: Callable[[], Awaitable[bool]], *, within: float = 60) -> None:
    """Look until it is so; name what it never was."""
    try:
        async with asyncio.timeout(within):
            while not await probe():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {within:.0f} s in vain: {what}") from None
