"""Consent sessions: an invitation, and what becomes of the code that comes back. Its button is `presses.py`'s.

invited ──button──▶ (state minted) ──callback──▶ received ──▶ exchanging ──▶ exchanged ──▶ completed
   │                                                │              │             │
   └────────────────────────────────────────────────┴──────────────┴─────────────┴──▶ refused | replaced | expired

Whoever changes both locks states before their session, and the connection before either: nobody waits in a circle.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import credentials, presses
from integrations.db.outbox import enqueue
from integrations.db.tables import Connection, ConsentSession, Credential
from integrations.db.vault import Vault, digest, session_place
from integrations.domain.connection import masked

OPEN: Final = ("invited", "received", "exchanging", "exchanged")
ON_ITS_WAY: Final = ("received", "exchanging", "exchanged")
"""The owner came back with a code: what becomes of it is being found out."""


async def open_session(session: AsyncSession, lifecycle_id: UUID) -> ConsentSession | None:
    """The lifecycle's invitation that can still be answered, or whose answer is on its way."""
    return await session.scalar(
        select(ConsentSession).where(ConsentSession.lifecycle_id == lifecycle_id, ConsentSession.status.in_(OPEN))
    )


async def current(session: AsyncSession, connection_id: UUID, lifecycle_id: UUID) -> ConsentSession | None:
    """A lifecycle's invitation that stands. Those that an earlier lifecycle of the connection left open end here.

    But for a consent that came back and was never looked at, as when somebody terminated that lifecycle: it is taken
    over, so that nobody has to consent twice.
    """
    found = await session.scalars(
        select(ConsentSession).where(ConsentSession.connection_id == connection_id, ConsentSession.status.in_(OPEN))
    )
    rows = found.all()
    stands = next((row for row in rows if row.lifecycle_id == lifecycle_id), None)
    for row in rows:
        if row is stands:
            continue
        if stands is None and row.status == "received":
            row.lifecycle_id, stands = lifecycle_id, row
        else:
            await credentials.discard_of(session, row.id)
            await end(session, row.id, "replaced", "a newer invitation takes its place")
    return stands


async def invite(
    session: AsyncSession,
    vault: Vault,
    connection: Connection,
    *,
    lifecycle_id: UUID,
    asked: list[str],
    why: str,
    expires_at: datetime,
) -> ConsentSession:
    """A new invitation and its event, which carries the session's id: the link is rendered when it is sent."""
    session_id = uuid4()
    row = ConsentSession(
        id=session_id,
        connection_id=connection.id,
        lifecycle_id=lifecycle_id,
        status="invited",
        link_hash=digest(vault.link_token(session_id)),
        asked_grants=asked,
        why=why,
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    payload = {
        "session_id": str(session_id),
        "account": masked(connection.account_name),
        "why": why,
        "until": expires_at.isoformat(),
    }
    # The session's own id makes the event's: an invitation is told once, whoever retries.
    await enqueue(session, connection.id, session_id, "reauth.invited", payload)
    return row


async def end(
    session: AsyncSession, session_id: UUID, status: str, outcome: str, evidence: dict[str, Any] | None = None
) -> bool:
    """End an open session. What was sealed in it is of no more use to anybody and is forgotten."""
    await presses.void(session, session_id)
    ended = await session.execute(
        update(ConsentSession)
        .where(ConsentSession.id == session_id, ConsentSession.status.in_(OPEN))
        .values(
            status=status,
            outcome=outcome,
            evidence=evidence or {},
            ended_at=func.now(),
            sealed_code=None,
            sealed_verifier=None,
        )
        .returning(ConsentSession.id)
    )
    return ended.scalar() is not None


async def end_all(session: AsyncSession, connection_id: UUID, status: str, outcome: str) -> None:
    """End whatever invitation of the connection is still open, of this lifecycle or an earlier one."""
    ids = await session.scalars(
        select(ConsentSession.id).where(ConsentSession.connection_id == connection_id, ConsentSession.status.in_(OPEN))
    )
    for session_id in ids.all():
        await end(session, session_id, status, outcome)


async def with_credential(
    session: AsyncSession, session_id: UUID
) -> tuple[ConsentSession, Connection, Credential | None] | None:
    """One invitation, its connection, and what its consent has brought so far."""
    found = await session.execute(
        select(ConsentSession, Connection, Credential)
        .join(Connection, Connection.id == ConsentSession.connection_id)
        .outerjoin(Credential, Credential.session_id == ConsentSession.id)
        .where(ConsentSession.id == session_id)
    )
    return found.one_or_none()


async def latest(session: AsyncSession, connection_id: UUID) -> ConsentSession | None:
    """The connection's newest invitation, however it ended."""
    return await session.scalar(
        select(ConsentSession)
        .where(ConsentSession.connection_id == connection_id)
        .order_by(ConsentSession.created_at.desc())
        .limit(1)
    )


async def by_link(session: AsyncSession, token: str) -> ConsentSession | None:
    return await session.scalar(select(ConsentSession).where(ConsentSession.link_hash == digest(token)))


async def told(session: AsyncSession, session_id: UUID) -> None:
    """Remember that the lifecycle was signalled once more."""
    await session.execute(update(ConsentSession).where(ConsentSession.id == session_id).values(signalled_at=func.now()))


async def move(session: AsyncSession, session_id: UUID, from_status: str, to_status: str) -> bool:
    moved = await session.execute(
        update(ConsentSession)
        .where(ConsentSession.id == session_id, ConsentSession.status == from_status)
        .values(status=to_status)
        .returning(ConsentSession.id)
    )
    return moved.scalar() is not None


async def stands(session: AsyncSession, session_id: UUID, status: str) -> bool:
    """Is it still so? The caller holds the connection's lock, under which invitations end."""
    return await session.scalar(select(ConsentSession.status).where(ConsentSession.id == session_id)) == status


async def accept(session: AsyncSession, session_id: UUID, account_id: str, account_name: str | None) -> bool:
    """The consent is the right account's, and brought what was asked for: its code is of no more use."""
    accepted = await session.execute(
        update(ConsentSession)
        .where(ConsentSession.id == session_id, ConsentSession.status == "exchanging")
        .values(
            status="exchanged",
            account_id=account_id,
            account_name=account_name,
            sealed_code=None,
            sealed_verifier=None,
        )
        .returning(ConsentSession.id)
    )
    return accepted.scalar() is not None


def code_and_verifier(vault: Vault, row: ConsentSession) -> tuple[str, str]:
    """Open what the exchange sends. Raises NotReadyError when the key is not the right one."""
    assert row.sealed_code is not None
    assert row.sealed_verifier is not None
    assert row.key_id is not None
    code = vault.open(row.sealed_code, row.key_id, session_place(row.id, "code"))
    verifier = vault.open(row.sealed_verifier, row.key_id, session_place(row.id, "verifier"))
    return code.decode(), verifier.decode()
