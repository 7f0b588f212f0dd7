"""What Temporal says of the outbox's dispatchers, when it answers: described, never queried."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from integrations.domain.outbox_page import Dispatcher, Workflow
from integrations.temporal import TemporalUnreachableError
from starters.reach import Reach, no_worker_since
from workflows.queues import DRAIN

_PATIENCE: Final = timedelta(seconds=3)
_LIMIT: Final = 200
"""Characters of a failure."""


async def described(reach: Reach, dispatchers: Sequence[Dispatcher]) -> tuple[list[Dispatcher], str]:
    """The dispatchers with their workflows; and what keeps them from working, or Temporal from telling, if anything."""
    try:
        client = await reach.client()
        workflows = await asyncio.gather(*(_workflow(client, each.number) for each in dispatchers))
        note = await no_worker_since(client, DRAIN) or ""
    except (TemporalUnreachableError, RPCError) as error:
        said = error.message if isinstance(error, RPCError) else str(error)
        return list(dispatchers), f"without Temporal's word: {said}"
    return [
        each.model_copy(update={"workflow": workflow}) for each, workflow in zip(dispatchers, workflows, strict=True)
    ], note


async def _workflow(client: Client, number: int) -> Workflow:
    try:
        found = await client.get_workflow_handle(f"outbox-dispatch:{number}").describe(rpc_timeout=_PATIENCE)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return Workflow(state="not found")
    state = found.status.name.lower().replace("_", " ") if found.status else "unknown"
    if found.status is not WorkflowExecutionStatus.RUNNING:
        return Workflow(state=state)
    drains = found.raw_description.pending_activities
    if not drains:
        return Workflow(state=state)
    drain = drains[0]
    return Workflow(state=state, attempt=drain.attempt, failure=drain.last_failure.message[:_LIMIT])
