"""What people ask of an outage's workflow, as typed calls: the commands', the demo's, and a host application's."""

from datetime import timedelta
from typing import Final

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from integrations.domain.errors import StopError, TryAgainError
from integrations.domain.outage import Pin, Word, outage_id
from starters.reach import no_worker_since
from workflows.queues import WORKFLOWS

_ANSWERED_WITHIN: Final = timedelta(seconds=10)


async def is_open(client: Client, provider_id: str) -> bool:
    """Does the workflow of an outage of this provider run?"""
    try:
        described = await client.get_workflow_handle(outage_id(provider_id)).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return described.status is WorkflowExecutionStatus.RUNNING


async def ask(client: Client, provider_id: str, name: str, said: Word | Pin) -> str:
    """Ask something of an open outage. What it did, in words.

    Raises StopError when none is open or it refuses, TryAgainError at once when no worker is there to answer, and after
    ten seconds when none does.
    """
    if sentence := await no_worker_since(client, WORKFLOWS):
        raise TryAgainError(f"{name} has to be done by a worker, and {sentence}")
    handle = client.get_workflow_handle(outage_id(provider_id))
    try:
        return str(await handle.execute_update(name, said, rpc_timeout=_ANSWERED_WITHIN) or "")
    except WorkflowUpdateFailedError as error:
        raise StopError(f"{name} was refused: {error.cause}") from None
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        raise TryAgainError(
            f"{name} was not answered within {_ANSWERED_WITHIN.seconds} s and may still be carried out: is a "
            "worker running? `runbook doctor` tells"
        ) from None
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise StopError(f"no outage of {provider_id} is being worked on. See: runbook outage status") from None
