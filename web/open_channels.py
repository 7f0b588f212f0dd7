"""Channels with their live secrets, those in use all read together: once a second, and not once a delivery.

What a read costs grows with what is asked for and never with how many channels there are. What somebody makes up costs
no read of its own, and keeps no other channel waiting.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
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
_KEPT: Final = 1_000
"""Channels that are read ahead, the last that were asked for. Any other one is read when it is."""
_PATIENCE: Final = 2.0
_SHARE: Final = 10
_LONGEST_PAUSE: Final = 0.5
"""Seconds. Reads that take long come after pauses: a tenth of the time is spent on them at most."""

Key = tuple[str, str]


@dataclass(slots=True)
class _Seen:
    """A channel that is there."""

    began: float
    """When the read that found it did."""
    rows: Sequence[Row[Any]]
    opened: OpenChannel | None = None


class OpenChannels:
    def __init__(self, sessions: Sessions, vault: Vault) -> None:
        self._sessions = sessions
        self._vault = vault
        self._seen: OrderedDict[Key, _Seen] = OrderedDict()
        """The one that was asked for last comes last."""
        self._wanted: set[Key] = set()
        """By the next read."""
        self._began, self._took = -inf, 0.0
        self._missing: Collection[Key] = ()
        """The last read that was answered: when it began, how long it took, and what it did not find."""
        self._reading: asyncio.Task[None] | None = None

    async def get(self, provider_id: str, channel: str, *, at_most: float = USUAL) -> OpenChannel | None:
        """The channel as it was at most so many seconds ago. None when there is none of that name.

        All who ask meanwhile share one read. Raises OSError, SQLAlchemyError, asyncpg.PostgresError or TimeoutError
        when the database does not answer, and NotReadyError when a secret of this channel does not open.
        """
        key = (provider_id, channel)
        seen = await self._since(key, time.monotonic() - at_most)
        if seen is None:
            return None
        if seen.opened is None:
            seen.opened = webhook_secrets.opened(self._vault, seen.rows)
        return seen.opened

    async def _since(self, key: Key, moment: float) -> _Seen | None:
        while (seen := self._seen.get(key)) is None or seen.began < moment:
            if self._began >= moment and key in self._missing:
                return None
            self._wanted.add(key)
            # One who hangs up does not take the answer away from the others.
            await asyncio.shield(self._read_once())
        self._seen.move_to_end(key)
        if time.monotonic() - seen.began > USUAL / 2:
            # Read ahead, so that steady traffic never waits for it.
            self._read_once()
        return seen

    def _read_once(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(_looked_at)
        return self._reading

    async def _read(self) -> None:
        pause = min(_LONGEST_PAUSE, self._took * _SHARE)
        await asyncio.sleep(max(0.0, self._began + pause - time.monotonic()))
        began = time.monotonic()
        # Now, and not when they are found: somebody waits for those.
        while len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        # Somewhat younger ones too: all that are in use come to be read at the same time.
        old = {key for key, seen in self._seen.items() if began - seen.began > USUAL / 4}
        asked, self._wanted = self._wanted | old, set()
        async with asyncio.timeout(_PATIENCE), self._sessions.begin() as session:
            found = await webhook_secrets.of_these(session, asked)
        for key in asked:
            if key in found:
                self._seen[key] = _Seen(began, found[key])
            else:
                self._seen.pop(key, None)
        self._began, self._took, self._missing = began, time.monotonic() - began, asked - found.keys()


def _looked_at(read: asyncio.Task[None]) -> None:
    """Nobody may be waiting for one that failed: the next one who asks reads again."""
    if not read.cancelled():
        read.exception()
