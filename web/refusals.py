"""Refused requests, counted here and written down together: one who is refused costs the database nothing."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Final

import structlog
from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import SQLAlchemyError

from integrations.db import webhook_refusals
from integrations.db.session import Sessions
from integrations.db.webhook_refusals import Refused
from integrations.domain.webhook import Reason

log = structlog.get_logger("web")
_EVERY: Final = 1.0
"""Seconds between two writes, while there is something to write."""


class Refusals:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._counts: Counter[Refused] = Counter()
        self._due: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def add(self, provider_id: str, channel: str, reason: Reason) -> None:
        """Count one. Provider and channel are known, or `(unknown)`: nobody fills the memory with names, or a table."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._counts[hour, provider_id, channel, reason.value] += 1
        self._soon()

    async def flush(self) -> None:
        """Write down what was counted. What cannot be written now is kept for the next time."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            async with self._sessions.begin() as session:
                await webhook_refusals.add(session, counts)
        except (OSError, SQLAlchemyError, PostgresError, InterfaceError) as error:
            self._counts.update(counts)
            self._soon()
            log.warning("webhook.refusals_not_written", why=type(error).__name__)
            return
        for (_, provider_id, channel, reason), count in counts.items():
            log.info("webhook.refused", provider=provider_id, channel=channel, reason=reason, count=count)

    async def close(self) -> None:
        """Write down the rest. What cannot be written by now is lost."""
        if self._writing is not None:
            await self._writing
        await self.flush()
        if self._due is not None:
            self._due.cancel()

    def _soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_EVERY, self._start)

    def _start(self) -> None:
        self._due, self._writing = None, asyncio.create_task(self.flush())
