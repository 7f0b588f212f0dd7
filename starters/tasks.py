"""Operator tasks: what a person is asked to do."""

from typing import Any
from uuid import UUID

import typer

from integrations.db import tasks as rows
from integrations.db.tables import OperatorTask
from integrations.domain.errors import StopError
from starters.reach import changing, reading
from starters.shell import By, Json, Reason, as_json, because, command, fields, out, run, table

app = typer.Typer(no_args_is_help=True, help="Operator tasks: list, show, acknowledge, close.")


@app.command("list")
@command
async def list_(json: Json = False, everything: bool = typer.Option(False, "--all", help="Closed ones too.")) -> None:
    """List the open tasks, the oldest first.

    Example: runbook tasks list
    """
    async with reading() as reach, reach.sessions.begin() as session:
        found = await rows.listed(session, everything=everything)
    if json:
        as_json([_told(row) for row in found])
        return
    shown = [(row.id, row.status, row.created_at, row.title, row.cause) for row in found]
    table(("ID", "STATUS", "SINCE", "TASK", "CAUSE"), shown, none="No task is open.")


@app.command()
@command
async def show(task_id: UUID, json: Json = False) -> None:
    """Show one task with the command that gets it done.

    Example: runbook tasks show 9c1d6c58-0b5b-4a39-8f39-6a7a7ce1a2b3
    """
    async with reading() as reach, reach.sessions.begin() as session:
        row = await rows.find(session, task_id)
    if json:
        as_json(_told(row))
    else:
        fields(list(_told(row).items()))


@app.command()
@command
async def ack(task_id: UUID, by: By) -> None:
    """Acknowledge a task: you have seen it and will act. Safe to repeat.

    Example: runbook tasks ack 9c1d6c58-0b5b-4a39-8f39-6a7a7ce1a2b3 --by ada
    """
    async with changing() as reach, reach.sessions.begin() as session:
        if not await rows.acknowledge(session, task_id, by=by):
            raise StopError(f"task {task_id} is closed: there is nothing left to acknowledge")
    out.print("Acknowledged.")


@app.command()
@command
async def close(task_id: UUID, by: By, reason: Reason = "") -> None:
    """Close a task by hand. Refused while its connection waits for its owner: repair or disconnect that one.

    Example: runbook tasks close 9c1d6c58-0b5b-4a39-8f39-6a7a7ce1a2b3 --reason "secret corrected"

    A task about a whole provider ends with its cause; its way out names what ends it earlier.
    """
    async with changing() as reach:
        async with reach.sessions.begin() as session:
            row = await rows.find(session, task_id)
            closed = await rows.close_by_hand(session, task_id, by=by, reason=because(reason, "runbook tasks close"))
        if not closed and row.connection_id is None:
            raise StopError(f"this task is about {row.provider_id} as a whole and ends with its cause: {row.way_out}")
        if not closed:
            raise StopError(
                f"the connection {row.connection_id} still waits for its owner, unseen without this task. "
                f"Pass the link on (runbook reauth link {row.connection_id}) or give it up "
                f"(runbook connections disconnect {row.connection_id})"
            )
    out.print("Closed.")


def _told(row: OperatorTask) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "status": row.status,
        "task": row.title,
        "cause": row.cause,
        "way_out": row.way_out,
        "connection": row.connection_id,
        "provider": row.provider_id,
        "created_at": row.created_at,
        "acknowledged_by": row.acknowledged_by,
        "acknowledged_at": row.acknowledged_at,
        "closed_by": row.closed_by,
        "closed_at": row.closed_at,
        "closed_reason": row.closed_reason,
    }


if __name__ == "__main__":
    run(app)
