"""A request's body, with never more of it in memory than is allowed, and of all together neither."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import Receive

from integrations.domain.webhook import Reason
from integrations.providers.webhooks.arrived import RefusedError

PATIENCE: Final = 10.0
"""Seconds for the whole of a body."""
ROOM: Final = 64 * 2**20
"""Bytes that are held at once of all bodies together."""
SMALL: Final = 64 * 2**10
"""Bytes of each body that count for nothing: whoever fills the room with large ones keeps no small one out."""
Headers = tuple[tuple[bytes, bytes], ...]


class FullError(Exception):
    """There is no room for more of a body now. Nobody is refused: the provider is to come again."""


class Bodies:
    def __init__(self) -> None:
        self._held = 0

    @asynccontextmanager
    async def of(self, headers: Headers, receive: Receive, largest: int) -> AsyncIterator[bytes]:
        """All of a body, and room for it until the end.

        Raises RefusedError for more than `largest` bytes, where that is announced before any is read, and for a body
        that ends early or takes too long; FullError when too much is held of others.
        """
        for name, value in headers:
            if name == b"content-length" and value.isdigit() and int(value[:20]) > largest:
                raise RefusedError(Reason.LARGE)
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            more = max(0, size - SMALL) - held
            if more > 0 and self._held + more > ROOM:
                raise FullError
            self._held, held = self._held + more, held + more

        try:
            yield await _in_time(receive, largest, hold)
        finally:
            self._held -= held


async def _in_time(receive: Receive, largest: int, hold: Callable[[int], None]) -> bytes:
    try:
        async with asyncio.timeout(PATIENCE):
            return await _read(receive, largest, hold)
    except TimeoutError:
        raise RefusedError(Reason.CUT) from None


async def _read(receive: Receive, largest: int, hold: Callable[[int], None]) -> bytes:
    """`hold` is told how much of it there is, before that is kept."""
    body, more = b"", True
    parts = bytearray()
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise RefusedError(Reason.CUT)
        body, more = message.get("body", b""), message.get("more_body", False)
        if len(parts) + len(body) > largest:
            raise RefusedError(Reason.LARGE)
        hold(len(parts) + len(body))
        if not parts and not more:
            return bytes(body)
        parts += body
    return bytes(parts)
