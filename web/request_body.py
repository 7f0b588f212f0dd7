"""A request's body, with never more of it in memory than is allowed."""

import asyncio
from typing import Final

from starlette.types import Receive

from integrations.domain.webhook import Reason
from integrations.providers.webhooks.arrived import RefusedError

PATIENCE: Final = 10.0
"""Seconds for the whole of a body."""


async def body_of(headers: tuple[tuple[bytes, bytes], ...], receive: Receive, largest: int) -> bytes:
    """All of it.

    Raises RefusedError for more than `largest` bytes, where that is announced before any is read, and for a body that
    ends early or takes too long.
    """
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > largest:
            raise RefusedError(Reason.LARGE)
    try:
        async with asyncio.timeout(PATIENCE):
            return await _read(receive, largest)
    except TimeoutError:
        raise RefusedError(Reason.CUT) from None


async def _read(receive: Receive, largest: int) -> bytes:
    body, more = b"", True
    parts = bytearray()
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise RefusedError(Reason.CUT)
        body, more = message.get("body", b""), message.get("more_body", False)
        if len(parts) + len(body) > largest:
            raise RefusedError(Reason.LARGE)
        if not parts and not more:
            return bytes(body)
        parts += body
    return bytes(parts)
