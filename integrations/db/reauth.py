"""A re-consent lifecycle opens, and invites. Each transaction takes the connection's lock, and checks whose it is.

How it ends stands in `ending.py`, what happens while it waits in `waiting.py`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import and_, func, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import automation, connections, consents, credentials, tasks
from integrations.db.ending import locked_by
from integrations.db.outbox import enqueue
from integrations.db.tables import Connection, ConsentSession, Credential, GrantEvent, OperatorTask
from integrations.db.vault import Vault
from integrations.domain.automation import FailureMode
from integrations.domain.connection import BLOCKED, Status, masked
from integrations.domain.reauth import Detected, Lifecycle, Opened, Opening, OpenLifecycle
from integrations.domain.run import Run

TASK: Final = "reauth"
_ACTOR: Final = "ReauthWorkflow"
_DEMOTABLE: Final = (Status.ACTIVE, Status.NEEDS_RECONSENT, Status.ERRORED)


async def open_lifecycle(
    session: AsyncSession,
    vault: Vault,
    wanted: OpenLifecycle,
    ask_first: Callable[[str], list[str]],
    *,
    run: Run | None = None,
) -> Opened:
    """Demote, block, open the task and invite, in the caller's transaction. A repeated call finds it done.

    `ask_first`: the grants to ask for, by provider, when the connection never had any. An entry that has vanished
    from the catalog keeps nobody from a repair.
    """
    row = await connections.lock(session, wanted.connection_id)
    held = await automation.why_not(session, FailureMode.REAUTH, row)
    live = await _take_detections(session, row, wanted.lifecycle_id, ordered_only=held is not None)
    mine = row.lifecycle_id == wanted.lifecycle_id
    account = masked(row.account_name)
    if held is not None and not live and not mine:
        return Opened(opening=Opening.LEFT, why=f"nothing is done by itself: {held}", account=account)
    # `errored` is ours to fix: its owner can do nothing about it.
    if row.status in {Status.ACTIVE, Status.ERRORED} and not live and not mine:
        why = "a newer credential is active: what was detected is over"
        return Opened(opening=Opening.ALREADY_REPAIRED, why=why, account=account)
    if row.status == Status.DISCONNECTED and not mine and not _asked_for(live):
        return Opened(opening=Opening.DISCONNECTED, why=f"disconnected: {row.status_reason}", account=account)
    asked = sorted({*row.grants, *row.missing_grants}) or ask_first(row.provider_id)
    row.lifecycle_id = wanted.lifecycle_id
    demoted = await _demote(session, row, live, run)
    invitation = await consents.current(session, row.id, wanted.lifecycle_id)
    # A look for which nothing new was found leaves standing what the owner was told last.
    why = live[0].cause if live else invitation.why if invitation else row.status_reason
    if invitation is None:
        invitation = await consents.invite(
            session,
            vault,
            row,
            lifecycle_id=wanted.lifecycle_id,
            asked=asked,
            why=why,
            expires_at=wanted.deadline,
        )
    task = await _open_task(session, row, invitation, why)
    return Opened(
        opening=Opening.OPENED,
        session_id=invitation.id,
        received=invitation.status == "received",
        why=why,
        account=account,
        since=row.status_since if row.status in BLOCKED and not demoted else task.created_at,
        escalate_at=_escalate_at(wanted, row, task),
        # Decided here and kept in the answer: whatever the rules of time zones become, a replay reads the same.
        remind_at=wanted.reminding.times(wanted.opened_at, wanted.deadline) if wanted.opened_at else (),
    )


def _escalate_at(wanted: OpenLifecycle, row: Connection, task: OperatorTask) -> datetime | None:
    """None: nothing is blocked, or somebody knows."""
    unseen = row.status in BLOCKED and task.status == "open" and task.escalated_at is None
    return task.created_at + wanted.reminding.acknowledge_within if wanted.opened_at and unseen else None


async def _take_detections(
    session: AsyncSession, row: Connection, lifecycle_id: UUID, *, ordered_only: bool
) -> Sequence[GrantEvent]:
    """Mark what was detected as handled. Those that a newer credential has not answered already, the gravest first.

    `ordered_only`: what the platform itself found is left, for reconcile to announce as if nobody had heard of it.
    """
    waits = and_(GrantEvent.connection_id == row.id, GrantEvent.handled_at.is_(None))
    if ordered_only:
        await session.execute(update(GrantEvent).where(waits, ~GrantEvent.ordered).values(announced_at=None))
        waits = and_(waits, GrantEvent.ordered)
    taken = await session.scalars(
        update(GrantEvent).where(waits).values(handled_at=func.now(), lifecycle_id=lifecycle_id).returning(GrantEvent)
    )
    pending = sorted(taken.all(), key=lambda event: event.noticed_at)
    active = await credentials.active(session, row.id) if pending else None
    live = [event for event in pending if not _answered(event, active)]
    gravest = [Detected.REVOKED, Detected.DOWNGRADED, Detected.REQUESTED]
    return sorted(live, key=lambda event: gravest.index(Detected(event.kind)))


def _answered(event: GrantEvent, active: Credential | None) -> bool:
    """Has a newer credential answered it? Not a person's request, and not the lack of grants that it lacks as well."""
    if event.kind == Detected.REQUESTED or event.credential_version is None or active is None:
        return False
    # The credential's own: the connection keeps its grants while the platform may not act.
    return active.version > event.credential_version and set(event.evidence.get("missing", ())) <= set(active.grants)


def _asked_for(live: Sequence[GrantEvent]) -> bool:
    return any(event.kind == Detected.REQUESTED for event in live)


async def _demote(session: AsyncSession, row: Connection, live: Sequence[GrantEvent], run: Run | None) -> bool:
    gravest = live[0] if live else None
    if gravest is None or gravest.kind == Detected.REQUESTED:
        return False
    revoked = gravest.kind == Detected.REVOKED
    to = Status.PENDING_REAUTH if revoked else Status.NEEDS_RECONSENT
    among = _DEMOTABLE if revoked else (Status.ACTIVE,)
    if not connections.may_move(row, to, among):
        return False
    gone = set(row.grants) if revoked else set(gravest.evidence.get("missing", ()))
    row.missing_grants = sorted({*row.missing_grants, *gone})
    row.grants = sorted(set(row.grants) - gone)
    return await connections.transition(
        session,
        row,
        to,
        among=among,
        event="connection.pending_reauth" if revoked else "connection.needs_reconsent",
        reason=gravest.cause,
        actor=gravest.actor,
        run=run,
        evidence={"detection": str(gravest.id)} | gravest.evidence,
        payload={"grants_gone": sorted(gone)},
    )


async def _open_task(session: AsyncSession, row: Connection, invitation: ConsentSession, why: str) -> OperatorTask:
    return await tasks.open_task(
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


async def invite_again(
    session: AsyncSession,
    vault: Vault,
    lifecycle: Lifecycle,
    session_id: UUID,
    *,
    why: str,
    deadline: datetime,
    evidence: dict[str, Any] | None = None,
) -> bool:
    """End an invitation that led nowhere, forget what it brought, and send a fresh one that says why.

    False when there is nobody left to invite.
    """
    row = await locked_by(session, lifecycle)
    await credentials.discard_of(session, session_id)
    ended = await consents.end(session, session_id, "refused", why, evidence)
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


async def tell_other_account(
    session: AsyncSession, lifecycle: Lifecycle, session_id: UUID, *, by: str, why: str
) -> None:
    """Somebody else consented: whoever looks after the connection may want to know, the owner above all."""
    row = await locked_by(session, lifecycle)
    if row is not None:
        told = {"session_id": str(session_id), "account": masked(row.account_name), "other": by, "why": why}
        await enqueue(session, row.id, uuid5(session_id, "other account"), "reauth.other_account", told)


async def lack_grants(
    session: AsyncSession,
    lifecycle: Lifecycle,
    missing: list[str],
    *,
    run: Run | None = None,
    evidence: dict[str, Any] | None = None,
) -> None:
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
        run=run,
        evidence=evidence,
        payload={"grants_gone": missing},
    )
