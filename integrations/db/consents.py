"""Consent sessions: an invitation, the state and verifier minted at its button, the code that came back.

invited ──button──▶ (state minted) ──callback──▶ received ──▶ exchanging ──▶ exchanged ──▶ completed
   │                                                │              │             │
   └────────────────────────────────────────────────┴──────────────┴─────────────┴──▶ refused | replaced | expired
"""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outbox import enqueue
from integrations.db.tables import Connection, ConsentSession
from integrations.db.vault import Vault, digest, session_place
from integrations.domain.connection import masked

OPEN = ("invited", "received", "exchanging", "exchanged")


async def open_session(session: AsyncSession, lifecycle_id: UUID) -> ConsentSession | None:
    """The lifecycle's invitation that can still be answered, or whose answer is on its way."""
    return await session.scalar(
        select(ConsentSession).where(ConsentSession.lifecycle_id == lifecycle_id, ConsentSession.status.in_(OPEN))
    )


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


async def end(session: AsyncSession, session_id: UUID, status: str, outcome: str) -> bool:
    """End an open session. What was sealed in it is of no more use to anybody and is forgotten."""
    ended = await session.execute(
        update(ConsentSession)
        .where(ConsentSession.id == session_id, ConsentSession.status.in_(OPEN))
        .values(
            status=status,
            outcome=outcome,
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


async def by_state(session: AsyncSession, state: str) -> ConsentSession | None:
    return await session.scalar(select(ConsentSession).where(ConsentSession.state_hash == digest(state)))


async def mint(
    session: AsyncSession, vault: Vault, session_id: UUID, *, state: str, verifier: str, browser: str
) -> bool:
    """Remember a fresh state and verifier for an invitation that still waits. False when it no longer does."""
    minted = await session.execute(
        update(ConsentSession)
        .where(
            ConsentSession.id == session_id, ConsentSession.status == "invited", ConsentSession.expires_at > func.now()
        )
        .values(
            state_hash=digest(state),
            browser_hash=digest(browser),
            sealed_verifier=vault.seal(verifier.encode(), session_place(session_id, "verifier")),
            key_id=vault.key_id,
            minted_at=func.now(),
            outcome=None,
        )
        .returning(ConsentSession.id)
    )
    return minted.scalar() is not None


async def receive(
    session: AsyncSession, vault: Vault, row: ConsentSession, code: str, variables: dict[str, str]
) -> bool:
    """Keep the code, sealed, and use the state up. False when this state was used before."""
    if row.sealed_verifier is None or row.key_id is None:
        return False
    verifier = vault.open(row.sealed_verifier, row.key_id, session_place(row.id, "verifier"))
    received = await session.execute(
        update(ConsentSession)
        .where(
            ConsentSession.id == row.id,
            ConsentSession.status == "invited",
            ConsentSession.state_hash == row.state_hash,
            # The verifier goes with the first answer, a decline included: a state is good for one.
            ConsentSession.sealed_verifier.is_not(None),
        )
        .values(
            status="received",
            sealed_code=vault.seal(code.encode(), session_place(row.id, "code")),
            # Both are of one key, also when the key was rotated while the owner consented.
            sealed_verifier=vault.seal(verifier, session_place(row.id, "verifier")),
            key_id=vault.key_id,
            variables=variables,
            received_at=func.now(),
        )
        .returning(ConsentSession.id)
    )
    return received.scalar() is not None


async def told(session: AsyncSession, session_id: UUID) -> None:
    """Remember that the lifecycle was signalled."""
    await session.execute(update(ConsentSession).where(ConsentSession.id == session_id).values(signalled_at=func.now()))


async def refuse(session: AsyncSession, row: ConsentSession, *, declined: bool, why: str) -> bool:
    """Record that no code came back: the owner declined, or the provider had trouble. False when that is known.

    The state is used up; the link stays good.
    """
    denied = await session.execute(
        update(ConsentSession)
        .where(
            ConsentSession.id == row.id,
            ConsentSession.status == "invited",
            ConsentSession.state_hash == row.state_hash,
            ConsentSession.sealed_verifier.is_not(None),
        )
        .values(denied_at=func.now() if declined else row.denied_at, outcome=why, sealed_verifier=None)
        .returning(ConsentSession.id)
    )
    return denied.scalar() is not None


async def move(session: AsyncSession, session_id: UUID, from_status: str, to_status: str) -> bool:
    moved = await session.execute(
        update(ConsentSession)
        .where(ConsentSession.id == session_id, ConsentSession.status == from_status)
        .values(status=to_status)
        .returning(ConsentSession.id)
    )
    return moved.scalar() is not None


def code_and_verifier(vault: Vault, row: ConsentSession) -> tuple[str, str]:
    """Open what the exchange sends. Raises NotReadyError when the key is not the right one."""
    assert row.sealed_code is not None
    assert row.sealed_verifier is not None
    assert row.key_id is not None
    code = vault.open(row.sealed_code, row.key_id, session_place(row.id, "code"))
    verifier = vault.open(row.sealed_verifier, row.key_id, session_place(row.id, "verifier"))
    return code.decode(), verifier.decode()
