"""Connections: found, locked, and moved from one status to the next."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.contacts import quiet_hours_of
from integrations.db.outbox import enqueue
from integrations.db.tables import Connection, Contact, GrantEvent, Transition
from integrations.domain.connection import Status, may_become
from integrations.domain.errors import StopError
from integrations.domain.grants import Change
from integrations.domain.ids import new_event_id
from integrations.domain.quiet_hours import QuietHours
from integrations.domain.reauth import Detected
from integrations.domain.run import Run


async def find(session: AsyncSession, connection_id: UUID) -> Connection:
    """One connection. Raises StopError when there is none."""
    row = await session.get(Connection, connection_id)
    if row is None:
        raise unknown(connection_id)
    return row


async def providers_in_use(session: AsyncSession) -> dict[str, bool]:
    """The providers that some connection is at, and whether one of those is more than disconnected."""
    alive = func.bool_or(Connection.status != Status.DISCONNECTED)
    found = await session.execute(select(Connection.provider_id, alive).group_by(Connection.provider_id))
    return dict(iter(found))


async def lock(session: AsyncSession, connection_id: UUID) -> Connection:
    """The connection's row, locked until the transaction ends: state changes of one connection queue up here."""
    row = await session.scalar(
        select(Connection)
        .where(Connection.id == connection_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise unknown(connection_id)
    return row


def unknown(connection_id: object) -> StopError:
    return StopError(f"there is no connection {connection_id}; `runbook connections list` shows those there are")


def may_move(row: Connection, to: Status, among: Iterable[Status]) -> bool:
    now = Status(row.status)
    return now in among and may_become(now, to)


async def transition(
    session: AsyncSession,
    row: Connection,
    to: Status,
    *,
    among: Iterable[Status],
    event: str,
    reason: str,
    actor: str,
    lifecycle_id: UUID | None = None,
    run: Run | None = None,
    evidence: dict[str, Any] | None = None,
    payload: dict[str, Any] | None = None,
) -> bool:
    """Move a locked connection to another status, with its history row and its event: all of it or nothing.

    False, and nothing written, when the status is not one of `among` or leads nowhere near `to`: somebody else was
    faster, and the caller decides what that means. `lifecycle_id`: the one that did it, where it has just ended.
    """
    now = Status(row.status)
    if not may_move(row, to, among):
        return False
    event_id = new_event_id()
    row.status, row.status_reason, row.status_since = to, reason, func.now()
    session.add(
        Transition(
            connection_id=row.id,
            from_status=now,
            to_status=to,
            reason=reason,
            actor=actor,
            evidence=evidence or {},
            lifecycle_id=lifecycle_id or row.lifecycle_id,
            workflow_id=run.workflow_id if run else None,
            run_id=run.run_id if run else None,
            event_id=event_id,
        )
    )
    await session.flush()
    told = {"from": now, "to": to, "reason": reason, "actor": actor} | (payload or {})
    await enqueue(session, row.id, event_id, event, told)
    return True


async def detected(session: AsyncSession, detection_id: UUID) -> tuple[GrantEvent, Connection, QuietHours | None]:
    """A detection, whom it is about, and their owner's quiet hours where they are known."""
    found = await session.execute(
        select(GrantEvent, Connection, Contact)
        .join(Connection, Connection.id == GrantEvent.connection_id)
        .outerjoin(Contact, (Contact.scope_type == Connection.scope_type) & (Contact.scope_id == Connection.scope_id))
        .where(GrantEvent.id == detection_id)
    )
    event, connection, contact = found.one()
    return event, connection, quiet_hours_of(contact)


async def note_grants(
    session: AsyncSession, row: Connection, change: Change, *, actor: str, version: int
) -> UUID | None:
    """Write down on a locked connection that its grants changed. A detection's id when the owner has to act."""
    row.grants = sorted({*row.grants, *change.gained} - {*change.lost})
    row.missing_grants = sorted({*row.missing_grants, *change.missing} - {*change.gained})
    told = {"gained": list(change.gained), "lost": list(change.lost), "missing": list(change.missing)}
    event = GrantEvent(
        id=uuid4(),
        connection_id=row.id,
        kind=change.kind,
        cause=f"the provider's answer to a refresh {change.words}",
        actor=actor,
        credential_version=version,
        evidence=told,
        handled_at=None if change.missing else func.now(),
    )
    session.add(event)
    await session.flush()
    await enqueue(session, row.id, new_event_id(), f"connection.grants_{change.kind}", told | {"actor": actor})
    return event.id if change.missing else None


async def detect(
    session: AsyncSession,
    connection_id: UUID,
    kind: Detected,
    *,
    cause: str,
    actor: str,
    version: int | None,
    evidence: dict[str, Any] | None = None,
    ordered: bool = False,
) -> UUID:
    """Write down that a connection's consent needs a look. The lifecycle that looks marks the row as handled.

    What is found once more, while nobody has looked, is the same detection, brought up to date: a platform that may
    not act finds it at every refresh. `ordered`: by a person, whose every word is kept.
    """
    told = {"cause": cause, "credential_version": version, "evidence": evidence or {}}
    if not ordered:
        same = (GrantEvent.connection_id == connection_id, GrantEvent.kind == kind, GrantEvent.actor == actor)
        waits: UUID | None = await session.scalar(
            update(GrantEvent)
            .where(*same, GrantEvent.handled_at.is_(None), ~GrantEvent.ordered)
            .values(told)
            .returning(GrantEvent.id)
        )
        if waits is not None:
            return waits
    row = GrantEvent(id=uuid4(), connection_id=connection_id, kind=kind, actor=actor, ordered=ordered, **told)
    session.add(row)
    await session.flush()
    return row.id
