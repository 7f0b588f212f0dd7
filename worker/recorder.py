"""Every call of a provider is remembered, and none of them waits for that.

A call costs an append to a list in memory. One task writes what is there every half second, in one statement: a killed
process loses the calls of its last second, an orderly one none. While the database does not take them they are kept, up
to a bound; beyond it the oldest go, because whoever looks at calls looks at the last minutes.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator
from itertools import count
from typing import Final

import structlog

from integrations.db import calls
from integrations.db.calls import Numbered
from integrations.db.session import Sessions
from integrations.domain.call import ProviderCall
from integrations.observability import scrubbed

log = structlog.get_logger("worker")
KEPT: Final = 20_000
"""Calls that wait in memory: a busy worker's of a minute, in some megabytes."""
_EVERY: Final = 0.5
"""Seconds between two looks at what is there."""
_PATIENCE: Final = 5.0
"""Seconds for a write, so that a database that hangs holds up neither the next one nor a shutdown."""


class Recorder:
    """Called with each call. `dropped`: how many were lost because the database took none for too long."""

    def __init__(self, sessions: Sessions, kept: int = KEPT) -> None:
        self._sessions = sessions
        self._waiting = deque[Numbered](maxlen=kept)
        # With a call's time unlike any other process's number, and nothing to ask anybody for.
        self._numbers = count(secrets.randbits(62))
        self._keeps_failing = False
        self.dropped = 0

    def __call__(self, call: ProviderCall) -> None:
        self.dropped += len(self._waiting) == self._waiting.maxlen
        self._waiting.append((next(self._numbers), call))

    async def write(self) -> None:
        """Write what waits, or keep it. Raises nothing for whatever a database does."""
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, deque(maxlen=self._waiting.maxlen)
        try:
            async with asyncio.timeout(_PATIENCE), self._sessions.begin() as session:
                await calls.add(session, batch)
        except Exception as error:  # noqa: BLE001 - the task has to live, and the calls with it
            self._keep(batch)
            if not self._keeps_failing:
                log.warning("calls.unwritten", waiting=len(batch), why=scrubbed(str(error) or type(error).__name__))
            self._keeps_failing = True
            return
        if self._keeps_failing:
            log.warning("calls.written_again", calls=len(batch), dropped_so_far=self.dropped)
        self._keeps_failing = False

    def _keep(self, batch: deque[Numbered]) -> None:
        later = self._waiting
        self._waiting = deque((*batch, *later), maxlen=batch.maxlen)
        self.dropped += len(batch) + len(later) - len(self._waiting)

    async def write_until(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _EVERY)
            await self.write()
        # What was called while the last one was being written.
        await self.write()
        if self._waiting or self.dropped:
            log.warning("calls.lost", calls=len(self._waiting) + self.dropped)


@contextlib.asynccontextmanager
async def recording(sessions: Sessions) -> AsyncIterator[Recorder]:
    """A recorder at work. On the way out everything that was called is written, within some seconds."""
    recorder, ended = Recorder(sessions), asyncio.Event()
    writing = asyncio.create_task(recorder.write_until(ended))
    try:
        yield recorder
    finally:
        ended.set()
        await writing
