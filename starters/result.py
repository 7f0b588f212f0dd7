"""What a command shows of the workflow that it started: its end, or where it goes on."""

from typing import Any, TypeVar

from temporalio.client import WorkflowHandle

from integrations.db import parked
from integrations.domain.errors import StopError
from integrations.temporal import ui_link
from starters.reach import Reach
from starters.shell import err
from starters.waited import ended

R = TypeVar("R")


async def result_of(reach: Reach, handle: WorkflowHandle[Any, R], patience: float) -> R:
    """The end of a workflow, or a sentence that says where it goes on."""
    where = ui_link(reach.settings, handle.id) or f"temporal workflow describe -w {handle.id}"
    try:
        with err.status(f"{handle.id} …"):
            return await ended(handle, patience)
    except TimeoutError:
        async with reach.sessions.begin() as session:
            waits = await parked.find(session, handle.id)
        if waits is not None:
            raise StopError(
                f"{handle.id} is {waits.words}. It is done when its provider is back: runbook outage status "
                f"{waits.provider_id}"
            ) from None
        raise StopError(f"{handle.id} is not done after {patience:g} s and goes on by itself: {where}") from None
