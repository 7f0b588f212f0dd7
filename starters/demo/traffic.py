"""Jobs that go on whatever happens: what a host application asks for in the ordinary course of its day."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from temporalio.client import WorkflowHandle

from integrations.domain.job import JobResult
from starters.demo.scene import BY, Scene

RATE: Final = 15.0
"""Jobs a second."""
_READ: Final = "notes.read"
_WRITE: Final = "notes.write"
_SHORT: Final = timedelta(seconds=8)
"""A hundred of these go on together after an outage, and each has its turn in less."""


class Traffic:
    def __init__(self, scene: Scene, ids: Sequence[UUID]) -> None:
        self._scene, self._ids = scene, ids
        self.started: dict[str, WorkflowHandle[Any, JobResult]] = {}
        """By idempotency key."""
        self.written: list[str] = []
        """The keys of those that write."""
        self.patience: timedelta | None = _SHORT
        """After which a job that is started now is parked. None: as in production."""

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Until the end of the block. What was started is not ended by it."""
        flow = asyncio.create_task(self._flow())
        try:
            yield
        finally:
            flow.cancel()
            await asyncio.gather(flow, return_exceptions=True)
        if not flow.cancelled() and (error := flow.exception()):
            raise error

    async def results(self) -> list[JobResult]:
        return list(await asyncio.gather(*(handle.result() for handle in self.started.values())))

    async def _flow(self) -> None:
        begun = time.monotonic()
        for number in range(1, 1_000_000):
            # Heard of, once it is asked for: cancelled in between, nobody would wait for it.
            await asyncio.shield(self._one(str(uuid4()), writes=number % 2 == 0))
            await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))

    async def _one(self, key: str, *, writes: bool) -> None:
        self.started[key] = await self._scene.platform.call(
            random.choice(self._ids),  # noqa: S311 - of a demo
            _WRITE if writes else _READ,
            key=key,
            payload={"text": f"a note, {key}"} if writes else {},
            by=BY,
            reason="an ordinary day",
            parked_after=self.patience,
        )
        self.written += [key] if writes else []
