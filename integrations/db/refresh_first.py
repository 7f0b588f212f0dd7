"""The first credential of a connection that needs nobody's consent. Until it is there, the connection is `errored`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import connections, credentials, leases, shield, tasks
from integrations.db.credentials import Tokens
from integrations.db.surge_counts import Refusal
from integrations.db.tables import NOT_FETCHED, Connection
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.run import Run

_PATIENCE: Final = timedelta(seconds=20)
_BATCH: Final = 100
_ACTOR: Final = "RefreshWorkflow"
_FETCHED: Final = "its first token was fetched"


async def connect(
    session: AsyncSession,
    vault: Vault,
    connection_id: UUID,
    token: int,
    tokens: Tokens,
    *,
    grants: Sequence[str],
    values: dict[str, str],
    expires_at: datetime | None,
    refresh_at: datetime | None,
    run: Run,
    evidence: dict[str, Any],
) -> int | None:
    """Store it and make the connection active. Its version; None, and nothing stored, when somebody was faster."""
    row = await connections.lock(session, connection_id)
    if not await leases.release(session, row.id, token, answered=True):
        return None
    if row.status != Status.ERRORED or await credentials.active_version(session, row.id) is not None:
        return None
    fresh = await credentials.add(
        session,
        vault,
        row.id,
        tokens,
        state="active",
        grants=sorted(grants),
        variables=values,
        expires_at=expires_at,
        refresh_at=refresh_at,
    )
    row.grants, row.missing_grants = list(fresh.grants), []
    told = {"version": fresh.version, "account": None}
    await connections.transition(
        session,
        row,
        Status.ACTIVE,
        among=(Status.ERRORED,),
        event="connection.connected",
        reason=_FETCHED,
        actor=_ACTOR,
        run=run,
        evidence=evidence | told,
        payload=told,
    )
    await tasks.close_all(session, row.id, by=_ACTOR, reason=_FETCHED, kinds=("errored",))
    return fresh.version


async def unfetched(session: AsyncSession) -> Sequence[Connection]:
    """Those for whom nobody has fetched one for long: whoever added them may have died before he could ask for it."""
    quiet = Connection.created_at < func.now() - _PATIENCE
    rows = select(Connection).where(Connection.status == Status.ERRORED, Connection.status_reason == NOT_FETCHED, quiet)
    return (await session.scalars(rows.order_by(Connection.created_at).limit(_BATCH))).all()


async def refuse(
    session: AsyncSession, token: int, refused: Refusal, *, name: str, cause: str, way_out: str
) -> str | None:
    """The provider does not give us one: a task names the fix. None, unless it says so under a shield.

    Then why it is not believed, in words: the connection stays as it is, and reconcile asks for its token again.
    `name`: the provider's, for people.
    """
    row = await connections.lock(session, refused.connection_id)
    answered = await leases.release(session, row.id, token, answered=True)
    why = await shield.why(session, row)
    if not answered or row.status != Status.ERRORED:
        return why
    if why is not None:
        await shield.set_aside(session, name, [refused])
        return why
    row.status_reason = cause
    title = f"{row.provider_id} refuses our own registration"
    await tasks.open_task(session, row.id, "errored", title=title, cause=cause, way_out=way_out)
    return None
