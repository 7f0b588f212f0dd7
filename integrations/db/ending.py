"""How a re-consent lifecycle ends: activated, repaired elsewhere, expired, given up. Each is one transaction.

Whatever the end, nothing that waited for it stays behind: no invitation, no candidate, no task.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import automation, connections, consents, credentials, presses, tasks
from integrations.db.outbox import enqueue
from integrations.db.tables import Connection, ConsentSession, GrantEvent
from integrations.domain.automation import FailureMode, Step
from integrations.domain.connection import BLOCKED, Status, masked
from integrations.domain.grants import compare
from integrations.domain.ids import new_event_id
from integrations.domain.reauth import Activation, Candidate, Expire, Lifecycle
from integrations.domain.run import Run

_ACTOR: Final = "ReauthWorkflow"


async def locked_by(session: AsyncSession, lifecycle: Lifecycle) -> Connection | None:
    """The connection, locked, or None when this lifecycle has no say over it any more."""
    row = await connections.lock(session, lifecycle.connection_id)
    return row if row.lifecycle_id == lifecycle.lifecycle_id else None


async def close(session: AsyncSession, row: Connection, *, ended: str, reason: str, by: str) -> None:
    """End whatever waits on a locked connection: its lifecycle has no say any more."""
    await credentials.discard_candidates(session, row.id)
    await consents.end_all(session, row.id, ended, reason)
    await tasks.close_all(session, row.id, by=by, reason=reason)
    row.lifecycle_id = None


async def activate(
    session: AsyncSession, candidate: Candidate, *, run: Run | None = None, evidence: dict[str, Any] | None = None
) -> Activation | None:
    """The candidate becomes the active version and the connection active: one transaction, or nothing.

    None: the candidate is gone, and its lifecycle waits for another consent.
    """
    row = await locked_by(session, candidate)
    invitation = await session.get_one(ConsentSession, candidate.session_id)
    if row is None and invitation.status == "completed":
        return Activation.ACTIVE  # done before the answer was lost
    if row is None:
        await credentials.discard_of(session, candidate.session_id)
        return Activation.VOID
    fresh = await credentials.activate(session, row.id, candidate.version)
    if fresh is None:
        return None
    row.lifecycle_id = None
    before = {*row.grants, *row.missing_grants}
    row.grants, row.missing_grants = list(fresh.grants), []
    change = compare(before, fresh.grants, wanted={*before, *fresh.grants}, optional=())
    if row.account_id is None:
        row.account_id, row.account_name = invitation.account_id, invitation.account_name
    told = {"version": candidate.version, "account": masked(row.account_name)}
    first = row.status == Status.DISCONNECTED
    moved = await connections.transition(
        session,
        row,
        Status.ACTIVE,
        among=(*BLOCKED, Status.ERRORED, Status.DISCONNECTED),
        event="connection.connected" if first else "connection.repaired",
        reason="the owner consented, and a call with the new credential worked",
        actor=_ACTOR,
        lifecycle_id=candidate.lifecycle_id,
        run=run,
        evidence=told | (evidence or {}),
        payload=told,
    )
    if not moved:  # it was active all along: a person asked for a fresh consent
        await enqueue(session, row.id, new_event_id(), "connection.credential_renewed", told)
    session.add(
        GrantEvent(
            connection_id=row.id,
            kind=change.kind if before and change else "granted",
            cause="the owner consented" + (f" and {change.words}" if before and change else ""),
            actor=_ACTOR,
            credential_version=candidate.version,
            evidence={"grants": row.grants, "gained": list(change.gained), "lost": list(change.lost)},
            handled_at=func.now(),
            lifecycle_id=candidate.lifecycle_id,
        )
    )
    await consents.end(session, candidate.session_id, "completed", "connected")
    await tasks.close_all(session, row.id, by=_ACTOR, reason=f"repaired with version {candidate.version}")
    return Activation.ACTIVE


async def repair_elsewhere(
    session: AsyncSession, row: Connection, *, reason: str, actor: str, run: Run | None, evidence: dict[str, Any]
) -> None:
    """A blocked, locked connection works again, and its owner had to do nothing."""
    payload = {"version": evidence.get("version")}
    await connections.transition(
        session,
        row,
        Status.ACTIVE,
        among=tuple(BLOCKED),
        event="connection.repaired",
        reason=reason,
        actor=actor,
        run=run,
        evidence=evidence,
        payload=payload,
    )
    await close(session, row, ended="replaced", reason=reason, by=actor)


async def may_expire(session: AsyncSession, expired: Expire) -> bool:
    """Whether the deadline may be carried out by itself now. A consent that is on its way is never kept waiting."""
    row = await locked_by(session, expired)
    if row is None:
        return True
    invitation = await consents.open_session(session, expired.lifecycle_id)
    if invitation is not None and invitation.status in consents.ON_ITS_WAY:
        return True
    return await automation.may(session, row, FailureMode.REAUTH, Step.DISCONNECT, cause=expired.why)


async def expire(session: AsyncSession, expired: Expire, *, run: Run | None = None) -> UUID | None:
    """Nobody came: the connection is given up, and says so.

    A consent that is on its way was in time, and so is an owner who was given more time while this was held back:
    nothing is given up, and the session is the answer.
    """
    row = await locked_by(session, expired)
    if row is None:
        return None
    invitation = await consents.open_session(session, expired.lifecycle_id)
    if invitation is not None:
        if expired.deadline is not None and invitation.expires_at > expired.deadline:
            return invitation.id
        await presses.void(session, invitation.id)
        await session.refresh(invitation, ["status"])
        if invitation.status in consents.ON_ITS_WAY:
            return invitation.id
    await give_up(session, row, among=tuple(BLOCKED), reason=expired.why, actor=_ACTOR, ended="expired", run=run)
    return None


async def give_up(
    session: AsyncSession,
    row: Connection,
    *,
    among: Sequence[Status],
    reason: str,
    actor: str,
    ended: str,
    run: Run | None = None,
) -> bool:
    """Disconnect a locked connection and end everything that waited for it. False when the status was not `among`."""
    given_up = await connections.transition(
        session,
        row,
        Status.DISCONNECTED,
        among=among,
        event="connection.disconnected",
        reason=reason,
        actor=actor,
        run=run,
    )
    if given_up:
        await credentials.retire_active(session, row.id)
        row.missing_grants, row.grants = sorted({*row.missing_grants, *row.grants}), []
    # What was asked for before the end must not open it again.
    await session.execute(
        update(GrantEvent)
        .where(GrantEvent.connection_id == row.id, GrantEvent.handled_at.is_(None))
        .values(handled_at=func.now())
    )
    await close(session, row, ended=ended, reason=reason, by=actor)
    return given_up
