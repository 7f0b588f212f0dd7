"""Re-consent lifecycles: started, looked at, and the link that unblocks one."""

from typing import Any
from uuid import UUID

import typer
from sqlalchemy import select
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from integrations.db import connections, consents
from integrations.db.tables import Connection, ConsentSession, OperatorTask
from integrations.domain.connection import reauth_id
from integrations.domain.errors import WrongUsageError
from integrations.temporal import TemporalUnreachableError, ui_link
from starters.client import invitation_link
from starters.reach import Reach, changing, no_worker_since, reading, warn_without_worker
from starters.shell import By, Json, Reason, as_json, because, command, err, fields, future, out, run, table
from workflows.queues import WORKFLOWS

app = typer.Typer(no_args_is_help=True, help="Re-consent: start it, see where it stands, get the owner's link.")


@app.command()
@command
async def start(
    connection_id: UUID,
    by: By,
    revoked: bool = typer.Option(False, "--revoked", help="You know that the grant is dead: block the connection."),
    reason: Reason = "",
) -> None:
    """Invite a connection's owner to consent. Without --revoked a healthy connection goes on working meanwhile.

    Example: runbook reauth start 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --revoked --reason "customer told us"
    """
    async with changing() as reach:
        platform = await reach.platform()
        why = because(reason, f"{by} asked for a fresh consent")
        workflow_id = await platform.ask_for_consent(connection_id, revoked=revoked, by=by, reason=why)
        await warn_without_worker(platform.temporal, WORKFLOWS)
    out.print(f"{workflow_id} is under way. The link to pass on: runbook reauth link {connection_id}")


@app.command()
@command
async def status(connection_id: UUID, json: Json = False) -> None:
    """Where a connection's re-consent stands: what broke, since when, until when, and what unblocks it.

    Example: runbook reauth status 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            row = await connections.find(session, connection_id)
            invitation = await consents.latest(session, row.id)
            task = await session.scalar(
                select(OperatorTask)
                .where(OperatorTask.connection_id == row.id, OperatorTask.status != "closed")
                .order_by(OperatorTask.kind != "reauth")
                .limit(1)
            )
        told: dict[str, Any] = {
            "connection": row.id,
            "status": row.status,
            "since": row.status_since,
            "cause": row.status_reason,
            "invitation": invitation.status if invitation else None,
            "invitation_says": (invitation.outcome or invitation.why) if invitation else None,
            "deadline": invitation.expires_at if invitation else None,
            "task": task.id if task else None,
            "task_is": task.status if task else None,
            "escalated_at": task.escalated_at if task else None,
            "snoozed_until": task.snoozed_until if task else None,
            "unblock": f"runbook reauth link {row.id}" if row.lifecycle_id else None,
        } | await _workflow(reach, row)
    if json:
        as_json(told)
    else:
        fields(list(told.items()))


@app.command()
@command
async def link(connection_id: UUID, json: Json = False) -> None:
    """Print the owner's invitation link. Whoever has it can consent: pass it on to the owner and to nobody else.

    Example: runbook reauth link 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11
    """
    async with reading() as reach:
        address, expires_at = await invitation_link(reach.settings, reach.sessions, connection_id)
    if json:
        as_json({"link": address, "expires_at": expires_at})
    else:
        out.print(address)


@app.command()
@command
async def remind(connection_id: UUID, by: By, reason: Reason = "") -> None:
    """Remind the owner now, whatever the hour. Reminders go out by themselves after 1, 3 and 6 days, by day.

    Example: runbook reauth remind 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --reason "they asked for the link again"
    """
    async with changing() as reach:
        platform = await reach.platform()
        out.print(await platform.remind(connection_id, by=by, reason=because(reason, "runbook reauth remind")))


@app.command()
@command
async def extend(
    connection_id: UUID,
    by: By,
    until: str = typer.Option(..., help="The new deadline: a time, or how long from now, as 10d or 12h."),
    reason: Reason = "",
) -> None:
    """Give the owner more time, or less. An absolute time: safe to repeat.

    Example: runbook reauth extend 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --until 2026-12-24T08:00:00Z
    """
    at = future(until)
    async with changing() as reach:
        platform = await reach.platform()
        out.print(await platform.extend(connection_id, at, by=by, reason=because(reason, "runbook reauth extend")))


@app.command()
@command
async def cancel(
    connection_id: UUID,
    by: By,
    disconnect: bool = typer.Option(False, "--disconnect", help="Give the connection up."),
    snooze: str = typer.Option("", help="Press nobody until then: a time, or how long from now, as 3d."),
    reason: Reason = "",
) -> None:
    """End the wait for the owner by giving the connection up, or leave everybody alone for a while.

    Example: runbook reauth cancel 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --snooze 3d --reason "on holiday until Monday"
    """
    if disconnect is bool(snooze):
        raise WrongUsageError("say either --disconnect or --snooze: a blocked connection is never just forgotten")
    at = future(snooze) if snooze else None
    async with changing() as reach:
        platform = await reach.platform()
        why = because(reason, "runbook reauth cancel")
        if at is None:
            given_up = await platform.disconnect(connection_id, by=by, reason=why)
            out.print("Disconnected." if given_up else "It was disconnected already.")
        else:
            out.print(await platform.snooze(connection_id, at, by=by, reason=why))


@app.command("list")
@command
async def list_(json: Json = False) -> None:
    """List the lifecycles that wait for somebody.

    Example: runbook reauth list
    """
    query = (
        select(Connection, ConsentSession)
        .join(ConsentSession, ConsentSession.lifecycle_id == Connection.lifecycle_id)
        .where(ConsentSession.status.in_(consents.OPEN))
        .order_by(ConsentSession.expires_at)
    )
    async with reading() as reach, reach.sessions.begin() as session:
        found = [(row, invitation) for row, invitation in (await session.execute(query)).all()]
    told = [
        {
            "connection": row.id,
            "provider": row.provider_id,
            "owner": row.tenant,
            "status": row.status,
            "since": row.status_since,
            "invitation": invitation.status,
            "deadline": invitation.expires_at,
            "cause": invitation.why,
        }
        for row, invitation in found
    ]
    if json:
        as_json(told)
        return
    headings = ("CONNECTION", "PROVIDER", "OWNER", "STATUS", "SINCE", "INVITATION", "UNTIL", "WHY")
    table(headings, [list(entry.values()) for entry in told], none="No re-consent is under way.")


async def _workflow(reach: Reach, row: Connection) -> dict[str, Any]:
    """What Temporal says of the lifecycle; rows alone when it cannot be asked."""
    workflow_id = reauth_id(row.provider_id, row.id)
    told: dict[str, Any] = {"workflow": workflow_id, "web_ui": ui_link(reach.settings, workflow_id)}
    try:
        client = await reach.client()
        described = await client.get_workflow_handle(workflow_id).describe()
        state = described.status.name.lower() if described.status else "unknown"
        told |= {"workflow_status": state, "run_id": described.run_id, "closed_at": described.close_time}
        if described.status is WorkflowExecutionStatus.RUNNING and (note := await no_worker_since(client, WORKFLOWS)):
            err.print(f"Note: {note}", markup=False)
    except RPCError as error:
        known = error.status is not RPCStatusCode.NOT_FOUND
        told["workflow_status"] = f"cannot be asked: {error.message}" if known else "there is none"
    except TemporalUnreachableError as error:
        told["workflow_status"] = f"cannot be asked: {error}"
    return told


if __name__ == "__main__":
    run(app)
