"""Presses of an invitation's button: each mints a state and a verifier for one tab, and takes one answer.

The first answer to an invitation is the one that counts; what other tabs bring later finds it taken.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outbox import enqueue
from integrations.db.tables import Connection, ConsentSession, ConsentState
from integrations.db.vault import Vault, digest, session_place

LIFE: Final = timedelta(hours=1)
"""How long a person may take at the provider. The browser's cookie lives as long."""


async def mint(
    session: AsyncSession, vault: Vault, session_id: UUID, *, state: str, verifier: str, browser: str
) -> bool:
    """Remember a fresh state and verifier for an invitation that still waits. False when it no longer does.

    Those of other tabs stay good: whichever comes back first is taken.
    """
    await session.execute(
        delete(ConsentState).where(ConsentState.session_id == session_id, ConsentState.minted_at < func.now() - LIFE)
    )
    minted = await session.execute(
        update(ConsentSession)
        .where(
            ConsentSession.id == session_id, ConsentSession.status == "invited", ConsentSession.expires_at > func.now()
        )
        .values(outcome=None)
        .returning(ConsentSession.id)
    )
    if minted.scalar() is None:
        return False
    session.add(
        ConsentState(
            session_id=session_id,
            state_hash=digest(state),
            browser_hash=digest(browser),
            sealed_verifier=vault.seal(verifier.encode(), session_place(session_id, "verifier")),
            key_id=vault.key_id,
        )
    )
    return True


async def by_state(session: AsyncSession, state: str) -> tuple[ConsentSession, ConsentState, Connection] | None:
    """Whose answer this is: the invitation, the press of its button, and the connection."""
    found = await session.execute(
        select(ConsentSession, ConsentState, Connection)
        .join(ConsentState, ConsentState.session_id == ConsentSession.id)
        .join(Connection, Connection.id == ConsentSession.connection_id)
        .where(ConsentState.state_hash == digest(state))
    )
    return found.one_or_none()


async def receive(
    session: AsyncSession, vault: Vault, row: ConsentSession, press: ConsentState, code: str, variables: dict[str, str]
) -> bool:
    """Keep the code, sealed, and use the state up. False when this state, or another tab's, was used before."""
    if press.sealed_verifier is None:
        return False
    verifier = vault.open(press.sealed_verifier, press.key_id, session_place(row.id, "verifier"))
    if not await _use_up(session, press):
        return False
    received = await session.execute(
        update(ConsentSession)
        .where(ConsentSession.id == row.id, ConsentSession.status == "invited")
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


async def refuse(session: AsyncSession, row: ConsentSession, press: ConsentState, *, declined: bool, why: str) -> bool:
    """Record that no code came back: the owner declined, or the provider had trouble. False when that is known.

    The state is used up; the link stays good. A decline is told: the caller holds the connection's lock.
    """
    if not await _use_up(session, press):
        return False
    denied = await session.execute(
        update(ConsentSession)
        .where(ConsentSession.id == row.id, ConsentSession.status == "invited")
        .values(denied_at=func.now() if declined else row.denied_at, outcome=why)
        .returning(ConsentSession.id)
    )
    refused = denied.scalar() is not None
    if refused and declined:
        # The press names the event: a person may decline again, and each time is told once.
        payload = {"session_id": str(row.id), "until": row.expires_at.isoformat()}
        await enqueue(session, row.connection_id, press.id, "reauth.declined", payload)
    return refused


async def void(session: AsyncSession, session_id: UUID) -> None:
    """Take no answer to the button any more. One that is being taken at this moment is waited for."""
    await session.execute(
        update(ConsentState)
        .where(ConsentState.session_id == session_id, ConsentState.sealed_verifier.is_not(None))
        .values(sealed_verifier=None)
    )


async def _use_up(session: AsyncSession, press: ConsentState) -> bool:
    """The verifier goes with the first answer, a decline included: a state is good for one."""
    used = await session.execute(
        update(ConsentState)
        .where(ConsentState.id == press.id, ConsentState.sealed_verifier.is_not(None))
        .values(sealed_verifier=None)
        .returning(ConsentState.id)
    )
    return used.scalar() is not None
