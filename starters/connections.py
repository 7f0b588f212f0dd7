"""Connections: seen, made, refreshed, called, given up."""

from typing import Any
from uuid import UUID

import typer
from sqlalchemy import select

from integrations.db import automation, webhook_channels
from integrations.db import connections as rows
from integrations.db.tables import Connection, Credential, Transition
from integrations.domain.automation import FailureMode
from integrations.domain.connection import Status, masked, reauth_id, refresh_id
from integrations.domain.errors import WrongUsageError
from integrations.domain.refresh import Refresh
from integrations.temporal import target, ui_link
from starters import calling, webhook_secret, why
from starters.pending import waiting
from starters.reach import changing, reading, warn_without_worker
from starters.result import result_of
from starters.shell import FAILED, By, Json, Reason, as_json, because, command, err, fields, out, run, table
from workflows.queues import WORKFLOWS, provider_queue

app = typer.Typer(no_args_is_help=True, help="OAuth connections: list, show, add, refresh, call, disconnect, webhooks.")
_WAIT = typer.Option(60.0, "--timeout", help="Seconds to wait for the end; the work itself goes on.")


@app.command("list")
@command
async def list_(
    json: Json = False,
    status: Status | None = typer.Option(None, help="Only those in this status."),
    limit: int = typer.Option(200, min=1, help="At most so many."),
) -> None:
    """List connections, those in trouble first.

    Example: runbook connections list --status pending_reauth
    """
    query = select(Connection).order_by(Connection.status == Status.ACTIVE, Connection.status_since.desc()).limit(limit)
    if status is not None:
        query = query.where(Connection.status == status)
    async with reading() as reach, reach.sessions.begin() as session:
        found = (await session.scalars(query)).all()
    if json:
        as_json([_told(row) for row in found])
        return
    shown = [(r.id, r.provider_id, r.tenant, r.status, r.status_since, r.status_reason) for r in found]
    headings = ("ID", "PROVIDER", "OWNER", "STATUS", "SINCE", "REASON")
    table(
        headings, shown, none="There are no connections. Make one: runbook connections add simulator --owner org:acme"
    )


@app.command()
@command
async def show(connection_id: UUID, json: Json = False) -> None:
    """Show one connection: status, grants, credential versions, history.

    Example: runbook connections show 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11
    """
    async with reading() as reach:
        async with reach.sessions.begin() as session:
            row = await rows.find(session, connection_id)
            kept = (
                await session.scalars(
                    select(Credential).where(Credential.connection_id == row.id).order_by(Credential.version)
                )
            ).all()
            history = (
                await session.scalars(
                    select(Transition).where(Transition.connection_id == row.id).order_by(Transition.id)
                )
            ).all()
        link = ui_link(reach.settings, reauth_id(row.provider_id, row.id))
    versions = [{"version": c.version, "state": c.state, "key_id": c.key_id, "expires_at": c.expires_at} for c in kept]
    moves = [
        {
            "at": t.at,
            "from": t.from_status,
            "to": t.to_status,
            "reason": t.reason,
            "actor": t.actor,
            "evidence": t.evidence,
        }
        for t in history
    ]
    if json:
        as_json(_told(row) | {"credentials": versions, "transitions": moves, "web_ui": link})
        return
    fields([*_told(row).items(), ("web_ui", link)])
    out.print()
    shown = [(v["version"], v["state"], v["key_id"], v["expires_at"]) for v in versions]
    table(("CREDENTIAL", "STATE", "KEY", "EXPIRES"), shown, none="There is no credential.")
    out.print()
    moved = [(m["at"], m["from"], m["to"], m["reason"], m["actor"]) for m in moves]
    table(("AT", "FROM", "TO", "REASON", "BY"), moved, none="Its status never changed.")


@app.command()
@command
async def add(
    provider: str,
    by: By,
    owner: str = typer.Option(..., help="Whose account: user:ID or org:ID."),
    variables: list[str] = typer.Option([], "--set", help="NAME=VALUE that the provider's addresses need."),
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Ask an owner to connect an account: prints the invitation's link. Connected is who has consented.

    Where the provider knows us by our client credentials nobody is asked, and the first token is fetched at once.

    Example: runbook connections add simulator --owner org:acme

    Where the address differs by connection: runbook connections add shopify --owner org:acme --set shop=acme
    """
    given = dict(_pair(text) for text in variables)
    async with changing() as reach:
        platform = await reach.platform()
        row = await platform.add(provider, owner, by=by, reason=because(reason, ""), variables=given)
        await warn_without_worker(platform.temporal, WORKFLOWS, provider_queue(row.provider_id))
    asks = row.status != Status.ERRORED
    if json:
        workflow_id = reauth_id(row.provider_id, row.id) if asks else refresh_id(row.provider_id, row.id)
        as_json({"connection_id": row.id, "workflow_id": workflow_id})
        return
    if not asks:
        out.print(f"Connection {row.id} needs nobody's consent. How it goes:\n\n  runbook connections show {row.id}\n")
        return
    out.print(f"Connection {row.id} waits for its owner. The link to pass on:\n\n  runbook reauth link {row.id}\n")


@app.command()
@command
async def refresh(
    connection_id: UUID, by: By, reason: Reason = "", wait: bool = True, patience: float = _WAIT, json: Json = False
) -> None:
    """Refresh a connection's credential now. A refusal is confirmed after 10 s; then its owner is invited.

    Example: runbook connections refresh 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11
    """
    async with changing() as reach:
        platform = await reach.platform()
        handle = await platform.refresh(connection_id, by=by, reason=because(reason, "runbook connections refresh"))
        await warn_without_worker(platform.temporal, WORKFLOWS)
        if not wait:
            as_json({"workflow_id": handle.id}) if json else out.print(f"Started: {handle.id}")
            return
        if joined := waiting(await handle.describe()):
            err.print(f"{handle.id} is under way and waits: {joined.why}", markup=False)
            at = target(reach.settings)
            where = f"--address {at.address} --namespace {at.namespace} -w {handle.id} -a {joined.activity_id}"
            err.print(f"To have it tried at once: temporal activity reset {where}", soft_wrap=True)
        result = await result_of(reach, handle, patience)
        async with reach.sessions.begin() as session:
            row = await rows.find(session, connection_id)
            held = await automation.why_not(session, FailureMode.REAUTH, row)
    if json:
        as_json(result)
    else:
        out.print(f"{result.refresh}" + (f": {result.why}" if result.why else f", version {result.version}"))
    ours = result.refresh in {Refresh.UNCONFIRMED, Refresh.OPERATOR_MUST_ACT}
    if held is not None and (ours or result.detection_id is not None):
        err.print(f"Nothing is done about it by itself: {held}. See: runbook automation", markup=False)
    elif result.detection_id is not None:
        err.print(f"The owner is invited again: runbook reauth status {connection_id}")
    if result.refresh is Refresh.SET_ASIDE:
        err.print(f"Nothing was changed, and it is asked again later: runbook outage status {row.provider_id}")
    if result.refresh is Refresh.SUSPECT:
        err.print("Nothing was changed. The operators' task says what to do: runbook tasks list")
    if result.refresh not in {Refresh.REFRESHED, Refresh.ROTATED_MEANWHILE}:
        raise typer.Exit(FAILED)


@app.command()
@command
async def disconnect(connection_id: UUID, by: By, reason: Reason = "") -> None:
    """Give a connection up: its credential is retired here, its lifecycle and task end. Safe to repeat.

    Example: runbook connections disconnect 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 --reason "customer left"
    """
    async with changing() as reach:
        platform = await reach.platform()
        why = because(reason, "runbook connections disconnect")
        given_up = await platform.disconnect(connection_id, by=by, reason=why)
        async with reach.sessions.begin() as session:
            left = await webhook_channels.open_of(session, connection_id)
    out.print("Disconnected." if given_up else "It was disconnected already.")
    for each in left:
        where = f"runbook webhooks close {each.provider_id} {each.channel}"
        err.print(f"Its provider may still send webhooks: end that there, and then `{where}`.", soft_wrap=True)


app.command("call")(calling.call)
app.command("why")(why.why_)
app.command("webhook-secret")(webhook_secret.webhook_secret)


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise WrongUsageError(f"--set {text[:80]!r} is no NAME=VALUE, as in --set shop=acme")
    return name, value


def _told(row: Connection) -> dict[str, Any]:
    return {
        "id": row.id,
        "provider": row.provider_id,
        "owner": row.tenant,
        "account": masked(row.account_name) if row.account_name else None,
        "status": row.status,
        "since": row.status_since,
        "reason": row.status_reason,
        "grants": row.grants,
        "missing_grants": row.missing_grants,
        "variables": row.variables,
        "lifecycle_id": row.lifecycle_id,
    }


if __name__ == "__main__":
    run(app)
