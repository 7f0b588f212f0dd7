"""Channels with their live secrets, all read together: once a second, and not once a delivery.

What somebody makes up costs no read of its own, and keeps no other channel waiting.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from sqlalchemy import Row

from integrations.db import webhook_secrets
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_secrets import OpenChannel

USUAL: Final = 1.0
FRESH: Final = 0.05
"""Seconds that an answer may be old. Before a refusal it is a fresh one: whoever makes us refuse causes twenty reads a
second at most, however many they are."""
_PATIENCE: Final = 2.0
_SHARE: Final = 10
_LONGEST_PAUSE: Final = 0.5
"""Seconds. Reads that take long come after pauses: a tenth of the time is spent on them at most."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Look:
    began: float
    channels: Mapping[Key, Sequence[Row[Any]]]
    opened: dict[Key, OpenChannel] = field(default_factory=dict)


class OpenChannels:
    def __init__(self, sessions: Sessions, vault: Vault) -> None:
        self._sessions = sessions
        self._vault = vault
        self._last = _Look(-inf, {})
        self._took = 0.0
        self._reading: asyncio.Task[None] | None = None

    async def get(self, provider_id: str, channel: str, *, at_most: float = USUAL) -> OpenChannel | None:
        """The channel as it was at most so many seconds ago. None when there is none of that name.

        All who ask meanwhile share one read. Raises OSError, SQLAlchemyError, asyncpg.PostgresError or TimeoutError
        when the database does not answer, and NotReadyError when a secret of this channel does not open.
        """
        key = (provider_id, channel)
        look = await self._since(time.monotonic() - at_most)
        if key in look.channels and key not in look.opened:
            look.opened[key] = webhook_secrets.opened(self._vault, look.channels[key])
        return look.opened.get(key)

    async def _since(self, moment: float) -> _Look:
        while self._last.began < moment:
            # One who hangs up does not take the answer away from the others.
            await asyncio.shield(self._read_once())
        if time.monotonic() - self._last.began > USUAL / 2:
            # Read ahead, so that steady traffic never waits for it.
            self._read_once()
        return self._last

    def _read_once(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(_looked_at)
        return self._reading

    async def _read(self) -> None:
        pause = min(_LONGEST_PAUSE, self._took * _SHARE)
        await asyncio.sleep(max(0.0, self._last.began + pause - time.monotonic()))
        began = time.monotonic()
        async with asyncio.timeout(_PATIENCE), self._sessions.begin() as session:
            channels = await webhook_secrets.everywhere(session)
        self._last, self._took = _Look(began, channels), time.monotonic() - began


def _looked_at(read: asyncio.Task[None]) -> None:
    """Nobody may be waiting for one that failed: the next one who asks reads again."""
    if not read.cancelled():
        read.exception()
