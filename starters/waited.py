"""Waiting for a workflow's end, as long as one wants to. The work itself goes on."""

import asyncio
from typing import Any, TypeVar

from temporalio.client import WorkflowFailureError, WorkflowHandle

from integrations.domain.errors import StopError
from integrations.domain.parked import Parked

R = TypeVar("R")


class ParkedError(TimeoutError):
    """A job that somebody waits for is parked: its provider was not back in time. It is done when that is."""

    def __init__(self, message: str, parked: Parked) -> None:
        super().__init__(message)
        self.parked = parked


async def ended(handle: WorkflowHandle[Any, R], patience: float | None = None) -> R:
    """How a workflow ended.

    Raises TimeoutError after `patience` seconds, while the work goes on by itself, and StopError, which names the
    cause, when it failed.
    """
    try:
        async with asyncio.timeout(patience):
            return await handle.result()
    except WorkflowFailureError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise StopError(f"{handle.id} failed: {cause}") from None
