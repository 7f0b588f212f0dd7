"""`runbook connections why`: what was decided about a connection, by whom or by which rule, and where to look."""

from typing import Any
from uuid import UUID

from integrations.db import connections, why
from integrations.db.tables import Connection
from integrations.db.why import Turn
from integrations.domain.connection import BLOCKED, Status
from integrations.domain.run import Run
from integrations.domain.verdict import row_of
from integrations.settings import Settings
from integrations.temporal import ui_link
from starters.reach import reading
from starters.shell import Json, as_json, command, fields, out


@command
async def why_(connection_id: UUID, json: Json = False) -> None:
    """Show each change of a connection: the provider's answer, the rule that matched, the workflow, the person.

    Example: runbook connections why 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            row = await connections.find(session, connection_id)
            told = await why.turns(session, connection_id)
        config = reach.settings
    if json:
        as_json({"connection": row.id, "status": row.status, "since": row.status_since, "turns": told})
        return
    fields(
        [("connection", row.id), ("status", row.status), ("since", row.status_since), ("next", _next(row))],
    )
    for turn in told:
        out.print()
        fields([("at", turn.at), ("what", turn.what), *((name, value) for name, value in _said(turn, config) if value)])


def _said(turn: Turn, config: Settings) -> list[tuple[str, Any]]:
    rule = row_of(turn.rule)
    return [
        ("why", turn.reason),
        ("answer", turn.answer),
        ("rule", f"{turn.rule} (row {rule[0]} of {rule[1]})" if rule else turn.rule),
        ("noticed by", _run(turn.noticed_by, config)),
        ("workflow", _run(turn.run, config)),
        ("person", turn.person),
    ]


def _run(run: Run | None, config: Settings) -> str:
    if run is None:
        return ""
    return ui_link(config, run.workflow_id, run.run_id) or f"{run.workflow_id} run {run.run_id}"


def _next(row: Connection) -> str:
    """The one command that leads on, when there is something to do."""
    if row.status in BLOCKED:
        return f"runbook reauth link {row.id}"
    if row.status == Status.ERRORED:
        return "runbook tasks list"
    if row.status == Status.DISCONNECTED and row.lifecycle_id is None:
        return f"runbook reauth start {row.id}"
    return f"runbook reauth status {row.id}" if row.lifecycle_id else ""
