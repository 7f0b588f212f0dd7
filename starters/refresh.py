"""Refreshes at a provider as a whole: what a surge of refusals holds back, and letting it be acted on."""

import typer
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from integrations.db.refresh_overdue import overdue
from integrations.db.surge_status import held_back
from integrations.domain.refresh import SweepRequest
from integrations.temporal import TemporalUnreachableError
from starters.pending import is_untaken, waiting
from starters.reach import Reach, changing, reading, warn_without_worker
from starters.shell import By, Json, Reason, as_json, because, command, out, run, table
from workflows.queues import WORKFLOWS, provider_queue

app = typer.Typer(no_args_is_help=True, help="Refreshes of a whole provider: what is held back, and its release.")


@app.command()
@command
async def held(
    provider: str = typer.Argument("", help="Only at this one."),
    limit: int = typer.Option(200, min=1, help="At most so many."),
    json: Json = False,
) -> None:
    """List the connections whose refusal nobody acts on, because it is one of a surge.

    Example: runbook refresh held simulator
    """
    async with reading() as reach, reach.sessions.begin() as session:
        found = await held_back(session, provider or None, limit)
    if json:
        as_json(found)
        return
    shown = [(each.connection, each.provider, each.owner, each.since, each.answer) for each in found]
    table(("CONNECTION", "PROVIDER", "OWNER", "SINCE", "ANSWER"), shown, none="Nothing is held back.")


@app.command()
@command
async def late(json: Json = False) -> None:
    """List the providers at which refreshes are late, and what the sweep there waits for.

    Example: runbook refresh late
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            found = await overdue(session)
        waits = {each.provider: await _waits_for(reach, each.provider) for each in found}
    if json:
        as_json([each.model_dump() | {"waits_for": waits[each.provider]} for each in found])
        return
    shown = [(each.provider, f"{each.connections:,}", each.since, waits[each.provider]) for each in found]
    table(("PROVIDER", "CONNECTIONS", "SINCE", "ITS SWEEP WAITS FOR"), shown, none="No refresh is late.")


async def _waits_for(reach: Reach, provider_id: str) -> str:
    """The last failure of a chunk that waits, in words."""
    try:
        client = await reach.client()
        described = await client.get_workflow_handle(SweepRequest(provider_id=provider_id).key).describe()
    except TemporalUnreachableError:
        return "Temporal, which does not answer: runbook doctor"
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return "its first sweep: does a worker run? runbook doctor"
    if described.status is not WorkflowExecutionStatus.RUNNING:
        return "the next sweep: does a worker run? runbook doctor"
    if found := waiting(described):
        return found.why
    return f"a worker that serves {provider_id}: runbook doctor" if is_untaken(described) else "nothing: it is at it"


@app.command()
@command
async def release(provider: str, by: By, reason: Reason = "", json: Json = False) -> None:
    """Vouch that what a provider refused is true: each connection held back is asked once more, then acted on.

    Example: runbook refresh release simulator --reason "they ended the contract"

    For a surge of revocations that really happened. Connections that are refused for the first time after it are
    counted anew. Safe to repeat.
    """
    async with changing() as reach:
        platform = await reach.platform()
        released = await platform.release(provider, by=by, reason=because(reason, "runbook refresh release"))
        if released:
            await warn_without_worker(platform.temporal, WORKFLOWS, provider_queue(provider))
    if json:
        as_json({"provider": provider, "surge": released is not None, "released": released or 0})
    elif released is None:
        out.print(f"There is no surge at {provider}: nothing is held back there. See: runbook refresh held")
    else:
        out.print(f"Released: {released:,} connections of {provider} are refreshed once more, and acted on if refused.")


if __name__ == "__main__":
    run(app)
