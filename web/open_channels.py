"""Channels with their live secrets, read once a second and not once a delivery."""

import asyncio
import time
from typing import Final

from integrations.db import webhook_secrets
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_secrets import OpenChannel

USUAL: Final = 1.0
FRESH: Final = 0.05
"""Seconds that an answer may be old. Before a refusal it is a fresh one: whoever makes us refuse causes 20 reads a
second."""
_READS: Final = 2
"""At once: addresses that somebody makes up leave the database's other connections to consents."""
_MOST: Final = 10_000

Key = tuple[str, str]
Read = asyncio.Task[OpenChannel | None]


class OpenChannels:
    def __init__(self, sessions: Sessions, vault: Vault) -> None:
        self._sessions = sessions
        self._vault = vault
        self._known: dict[Key, tuple[float, Read]] = {}
        self._reading = asyncio.Semaphore(_READS)

    async def get(self, provider_id: str, channel: str, *, at_most: float = USUAL) -> OpenChannel | None:
        """The channel as it was at most so many seconds ago. None when there is none of that name.

        All who ask meanwhile share one read. Raises OSError, SQLAlchemyError or asyncpg.PostgresError when the database
        does not answer, and NotReadyError when a secret does not open.
        """
        key, now = (provider_id, channel), time.monotonic()
        at, read = self._known.get(key, (0.0, None))
        if read is None or now - at > at_most:
            if len(self._known) >= _MOST:
                self._known.clear()
            read = asyncio.create_task(self._read(key))
            self._known[key] = (now, read)
        elif read.done():
            return read.result()
        # One who hangs up does not take the answer away from the others.
        return await asyncio.shield(read)

    async def _read(self, key: Key) -> OpenChannel | None:
        try:
            async with self._reading, self._sessions.begin() as session:
                return await webhook_secrets.find(session, self._vault, *key)
        except BaseException:
            # Trouble is no answer: the next one asks again.
            self._known.pop(key, None)
            raise
