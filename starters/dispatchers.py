"""A ledger's dispatchers on the screen, and what Temporal says of them when it answers: described, never queried."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from integrations.domain.dispatcher import Dispatcher, Workflow, listed
from integrations.temporal import TemporalUnreachableError
from starters.page import age
from starters.reach import Reach, no_worker_since
from starters.shell import table
from workflows.queues import DRAIN

_PATIENCE: Final = timedelta(seconds=3)
_LIMIT: Final = 200
"""Characters of a failure."""
_HEADINGS: Final = ("DISPATCHER", "SEEN", "PARTITIONS", "SESSION", "BATCH", "ERRORS", "WORKFLOW")


async def described(
    reach: Reach, dispatchers: Sequence[Dispatcher], kind: str, called: Callable[[int], str] = str
) -> tuple[list[Dispatcher], str]:
    """The dispatchers with their workflows; and what keeps them from working, or Temporal from telling, if anything.

    `kind`: how their workflows' ids begin. `called`: a number's name in these.
    """
    try:
        client = await reach.client()
        workflows = await asyncio.gather(*(_workflow(client, f"{kind}:{called(each.number)}") for each in dispatchers))
        note = await no_worker_since(client, DRAIN) or ""
    except (TemporalUnreachableError, RPCError) as error:
        said = error.message if isinstance(error, RPCError) else str(error)
        return list(dispatchers), f"without Temporal's word: {said}"
    return [
        each.model_copy(update={"workflow": workflow}) for each, workflow in zip(dispatchers, workflows, strict=True)
    ], note


async def _workflow(client: Client, workflow_id: str) -> Workflow:
    try:
        found = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=_PATIENCE)
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


def wished(number: int, by: str) -> str:
    """How many there are to be, and who wanted that."""
    return f"{number}, wished by {by}" if by else f"{number}, the default"


def show(dispatchers: Sequence[Dispatcher], now: datetime, called: Callable[[int], str] = str) -> None:
    rows = [(called(each.number), *_row(each, now)) for each in dispatchers]
    table(_HEADINGS, rows, none="No dispatcher.")


def _row(each: Dispatcher, now: datetime) -> tuple[object, ...]:
    seen = age(each.seen_at, now) + (" ago" if each.fresh(now) else " ago, STALE") if each.seen_at else "never"
    session = f"pid {each.owner.pid}, {each.owner.wait or 'on the CPU'}" if each.owner else "-"
    errors = str(each.errors)
    if each.last_error_at:
        errors += f", {age(each.last_error_at, now)} ago: {each.last_error}"
    return (
        f"{seen} {each.worker}".strip() if each.wished else f"{seen} {each.worker}, one too many",
        listed(each.owner.parts) if each.owner else "none",
        session,
        each.batch or "-",
        errors,
        _workflow_in_words(each),
    )


def _workflow_in_words(each: Dispatcher) -> str:
    if each.workflow is None:
        return "?"
    told = each.workflow.state
    if each.workflow.attempt:
        told += f", attempt {each.workflow.attempt}"
    return f"{told}: {each.workflow.failure}" if each.workflow.failure else told
