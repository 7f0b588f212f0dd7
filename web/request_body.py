"""A request's body, with never more of it in memory than is allowed, and of all together neither."""

import asyncio
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
    """All that are held now."""

    def __init__(self) -> None:
        self.held = 0

    def of(self, headers: Headers, receive: Receive, largest: int) -> "_Body":
        """All of a body, and room for it until the end: `async with` gives its bytes.

        Raises RefusedError for more than `largest` bytes, where that is announced before any is read, and for a body
        that ends early or takes too long; FullError when too much is held of others.
        """
        return _Body(self, headers, receive, largest)


class _Body:
    """A class and no generator: each delivery goes through it, and that is a twentieth of what one takes."""

    def __init__(self, all_: Bodies, headers: Headers, receive: Receive, largest: int) -> None:
        self._all, self._headers, self._receive, self._largest = all_, headers, receive, largest
        self._held = 0

    async def __aenter__(self) -> bytes:
        for name, value in self._headers:
            if name == b"content-length" and value.isdigit() and int(value[:20]) > self._largest:
                raise RefusedError(Reason.LARGE)
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._read()
        except TimeoutError:
            self._leave()
            raise RefusedError(Reason.CUT) from None
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    async def _read(self) -> bytes:
        body, more = b"", True
        parts = bytearray()
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise RefusedError(Reason.CUT)
            body, more = message.get("body", b""), message.get("more_body", False)
            if len(parts) + len(body) > self._largest:
                raise RefusedError(Reason.LARGE)
            self._hold(len(parts) + len(body))
            if not parts and not more:
                return bytes(body)
            parts += body
        return bytes(parts)

    def _hold(self, size: int) -> None:
        """Room for so much of it, before that is kept."""
        more = max(0, size - SMALL) - self._held
        if more > 0 and self._all.held + more > ROOM:
            raise FullError
        self._all.held, self._held = self._all.held + more, self._held + more

    def _leave(self) -> None:
        self._all.held -= self._held
        self._held = 0
