"""The transactions of a re-consent lifecycle. Each takes the connection's lock and checks whose lifecycle it is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import connections, consents, credentials, tasks
from integrations.db.outbox import enqueue
from integrations.db.tables import Connection, ConsentSession, Credential, GrantEvent
from integrations.db.vault import Vault
from integrations.domain.connection import BLOCKED, Status, masked
from integrations.domain.grants import compare
from integrations.domain.reauth import (
    Activation,
    Candidate,
    Detected,
    Expire,
    Lifecycle,
    Opened,
    Opening,
    OpenLifecycle,
)

TASK: Final = "reauth"
_ACTOR: Final = "ReauthWorkflow"
_DEMOTABLE: Final = (Status.ACTIVE, Status.NEEDS_RECONSENT, Status.ERRORED)


async def open_lifecycle(session: AsyncSession, vault: Vault, wanted: OpenLifecycle, ask_first: list[str]) -> Opened:
    """Demote, block, open the task and invite, in the caller's transaction. A repeated call finds it done.

    `ask_first`: the grants to ask for when the connection never had any.
    """
    row = await connections.lock(session, wanted.connection_id)
    live = await _take_detections(session, row, wanted.lifecycle_id)
    mine = row.lifecycle_id == wanted.lifecycle_id
    account = masked(row.account_name)
    # `errored` is ours to fix: its owner can do nothing about it.
    if row.status in {Status.ACTIVE, Status.ERRORED} and not live and not mine:
        why = "a newer credential is active: what was detected is over"
        return Opened(opening=Opening.ALREADY_REPAIRED, why=why, account=account)
    if row.status == Status.DISCONNECTED and not mine and not _asked_for(live):
        return Opened(opening=Opening.DISCONNECTED, why=f"disconnected: {row.status_reason}", account=account)
    row.lifecycle_id = wanted.lifecycle_id
    await _demote(session, row, live)
    invitation = await consents.open_session(session, wanted.lifecycle_id)
    # A look for which nothing new was found leaves standing what the owner was told last.
    why = live[0].cause if live else invitation.why if invitation else row.status_reason
    if invitation is None:
        await consents.end_all(session, row.id, "replaced", "a newer invitation takes its place")
        invitation = await consents.invite(
            session,
            vault,
            row,
            lifecycle_id=wanted.lifecycle_id,
            asked=sorted({*row.grants, *row.missing_grants}) or ask_first,
            why=why,
            expires_at=wanted.deadline,
        )
    await _open_task(session, row, invitation, why)
    return Opened(opening=Opening.OPENED, session_id=invitation.id, why=why, account=account)


async def _take_detections(session: AsyncSession, row: Connection, lifecycle_id: UUID) -> Sequence[GrantEvent]:
    """Mark what was detected as handled. Those that a newer credential has not answered already, the gravest first."""
    pending = await session.scalars(
        select(GrantEvent)
        .where(GrantEvent.connection_id == row.id, GrantEvent.handled_at.is_(None))
        .order_by(GrantEvent.noticed_at)
    )
    active = await credentials.active(session, row.id)
    live = []
    for event in pending.all():
        event.handled_at, event.lifecycle_id = func.now(), lifecycle_id
        if not _answered(event, row, active):
            live.append(event)
    gravest = [Detected.REVOKED, Detected.DOWNGRADED, Detected.REQUESTED]
    return sorted(live, key=lambda event: gravest.index(Detected(event.kind)))


def _answered(event: GrantEvent, row: Connection, active: Credential | None) -> bool:
    """Has a newer credential answered it? Not a person's request, and not the lack of grants that it lacks as well."""
    if event.kind == Detected.REQUESTED or event.credential_version is None or active is None:
        return False
    return active.version > event.credential_version and set(event.evidence.get("missing", ())) <= set(row.grants)


def _asked_for(live: Sequence[GrantEvent]) -> bool:
    return any(event.kind == Detected.REQUESTED for event in live)


async def _demote(session: AsyncSession, row: Connection, live: Sequence[GrantEvent]) -> None:
    gravest = live[0] if live else None
    if gravest is None or gravest.kind == Detected.REQUESTED:
        return
    revoked = gravest.kind == Detected.REVOKED
    gone = set(row.grants) if revoked else set(gravest.evidence.get("missing", ()))
    demoted = await connections.transition(
        session,
        row,
        Status.PENDING_REAUTH if revoked else Status.NEEDS_RECONSENT,
        among=_DEMOTABLE if revoked else (Status.ACTIVE,),
        event="connection.pending_reauth" if revoked else "connection.needs_reconsent",
        reason=gravest.cause,
        actor=gravest.actor,
        evidence={"detection": str(gravest.id)} | gravest.evidence,
        payload={"grants_gone": sorted(gone)},
    )
    if demoted:
        row.missing_grants = sorted({*row.missing_grants, *gone})
        row.grants = sorted(set(row.grants) - gone)


async def _open_task(session: AsyncSession, row: Connection, invitation: ConsentSession, why: str) -> None:
    await tasks.open_task(
        session,
        row.id,
        TASK,
        title=f"{row.tenant} has to consent again at {row.provider_id}"
        if row.status != Status.DISCONNECTED
        else f"{row.tenant} is asked to connect {row.provider_id}",
        cause=why,
        way_out=f"pass the link on to the owner: runbook reauth link {row.id}",
        lifecycle_id=row.lifecycle_id,
        session_id=invitation.id,
    )


async def locked_by(session: AsyncSession, lifecycle: Lifecycle) -> Connection | None:
    """The connection, locked, or None when this lifecycle has no say over it any more."""
    row = await connections.lock(session, lifecycle.connection_id)
    return row if row.lifecycle_id == lifecycle.lifecycle_id else None


async def invite_again(
    session: AsyncSession, vault: Vault, lifecycle: Lifecycle, session_id: UUID, *, why: str, deadline: datetime
) -> bool:
    """End an invitation that led nowhere, forget what it brought, and send a fresh one that says why.

    False when there is nobody left to invite.
    """
    row = await locked_by(session, lifecycle)
    await credentials.discard_of(session, session_id)
    ended = await consents.end(session, session_id, "refused", why)
    if row is None or not ended:
        return False
    old = await session.get_one(ConsentSession, session_id)
    fresh = await consents.invite(
        session,
        vault,
        row,
        lifecycle_id=lifecycle.lifecycle_id,
        asked=list(old.asked_grants),
        why=why,
        expires_at=deadline,
    )
    await _open_task(session, row, fresh, why)
    return True


async def tell_operators(session: AsyncSession, lifecycle: Lifecycle, *, title: str, cause: str, way_out: str) -> None:
    """A mistake of ours keeps every consent from working: beside the owner's invitation it needs a task of its own."""
    await tasks.open_task(
        session,
        lifecycle.connection_id,
        "registration",
        title=title,
        cause=cause,
        way_out=way_out,
        lifecycle_id=lifecycle.lifecycle_id,
    )


async def lack_grants(session: AsyncSession, lifecycle: Lifecycle, missing: list[str]) -> None:
    """A consent came back without grants that are needed: the connection needs them, not a new grant as a whole."""
    row = await locked_by(session, lifecycle)
    if row is None:
        return
    await connections.transition(
        session,
        row,
        Status.NEEDS_RECONSENT,
        # A healthy connection stays healthy: its old credential still has the grants that the new one lacks.
        among=(Status.PENDING_REAUTH,),
        event="connection.needs_reconsent",
        reason=f"the owner's consent lacks {', '.join(missing)}",
        actor=_ACTOR,
        payload={"grants_gone": missing},
    )


async def activate(session: AsyncSession, candidate: Candidate) -> Activation:
    """The candidate becomes the active version and the connection active: one transaction, or nothing."""
    row = await locked_by(session, candidate)
    invitation = await session.get_one(ConsentSession, candidate.session_id)
    if row is None and invitation.status == "completed":
        return Activation.ACTIVE  # done before the answer was lost
    if row is None or not await credentials.activate(session, row.id, candidate.version):
        await credentials.discard_of(session, candidate.session_id)
        return Activation.VOID
    fresh = await credentials.version_of(session, row.id, candidate.version)
    assert fresh is not None
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
        evidence=told,
        payload=told,
    )
    if not moved:  # it was active all along: a person asked for a fresh consent
        await enqueue(session, row.id, uuid4(), "connection.credential_renewed", told)
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
    row.lifecycle_id = None
    return Activation.ACTIVE


async def expire(session: AsyncSession, expired: Expire) -> None:
    """Nobody came: the connection is given up, and says so."""
    row = await locked_by(session, expired)
    if row is not None:
        await give_up(session, row, among=tuple(BLOCKED), reason=expired.why, actor=_ACTOR, ended="expired")


async def give_up(
    session: AsyncSession, row: Connection, *, among: Sequence[Status], reason: str, actor: str, ended: str
) -> bool:
    """Disconnect a locked connection and end everything that waited for it. False when the status was not `among`."""
    given_up = await connections.transition(
        session, row, Status.DISCONNECTED, among=among, event="connection.disconnected", reason=reason, actor=actor
    )
    if given_up:
        await credentials.retire_active(session, row.id)
        row.missing_grants, row.grants = sorted({*row.missing_grants, *row.grants}), []
    await credentials.discard_candidates(session, row.id)
    await consents.end_all(session, row.id, ended, reason)
    # What was asked for before the end must not open it again.
    await session.execute(
        update(GrantEvent)
        .where(GrantEvent.connection_id == row.id, GrantEvent.handled_at.is_(None))
        .values(handled_at=func.now())
    )
    await tasks.close_all(session, row.id, by=actor, reason=reason)
    row.lifecycle_id = None
    return given_up
