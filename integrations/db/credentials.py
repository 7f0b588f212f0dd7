"""Credentials as versions: sealed when written, opened at the moment of use, one active per connection."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import any_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault, credential_place
from integrations.domain.message import Message


class Tokens(Message):
    """What a provider's token endpoint gave. Never leaves the process but sealed: `repr` shows asterisks."""

    access_token: SecretStr
    refresh_token: SecretStr | None = None

    def sealed(self, vault: Vault, connection_id: UUID, version: int) -> bytes:
        parts = [self.access_token.get_secret_value()]
        if self.refresh_token:
            parts.append(self.refresh_token.get_secret_value())
        # RFC 6749 appendix A.12 and A.17: tokens are visible ASCII, so a newline parts them safely.
        return vault.seal("\n".join(parts).encode(), credential_place(connection_id, version))


def opened(vault: Vault, row: Credential) -> Tokens:
    text = vault.open(row.sealed, row.key_id, credential_place(row.connection_id, row.version)).decode()
    access, _, refresh = text.partition("\n")
    return Tokens(access_token=SecretStr(access), refresh_token=SecretStr(refresh) if refresh else None)


def values(connection: Connection, credential: Credential | None = None) -> dict[str, Any]:
    """What completes the provider's addresses: what was given with the connection, and what the provider told since."""
    return connection.variables | (credential.variables if credential else {})


async def active(session: AsyncSession, connection_id: UUID) -> Credential | None:
    return await session.scalar(
        select(Credential).where(Credential.connection_id == connection_id, Credential.state == "active")
    )


async def active_version(session: AsyncSession, connection_id: UUID) -> int | None:
    return await session.scalar(
        select(Credential.version).where(Credential.connection_id == connection_id, Credential.state == "active")
    )


async def with_connection(
    session: AsyncSession, connection_id: UUID, version: int
) -> tuple[Connection, Credential] | None:
    """One version, and the connection that it belongs to."""
    found = await session.execute(
        select(Connection, Credential)
        .join(Credential, Credential.connection_id == Connection.id)
        .where(Connection.id == connection_id, Credential.version == version)
    )
    return found.one_or_none()


async def add(
    session: AsyncSession,
    vault: Vault,
    connection_id: UUID,
    tokens: Tokens,
    *,
    state: str,
    grants: list[str],
    expires_at: datetime | None,
    refresh_at: datetime | None = None,
    variables: dict[str, Any] | None = None,
    session_id: UUID | None = None,
) -> Credential:
    """Add the next version. The caller holds the connection's lock, which makes the number next."""
    newest = select(func.max(Credential.version)).where(Credential.connection_id == connection_id).scalar_subquery()
    found = await session.execute(select(Connection.provider_id, newest).where(Connection.id == connection_id))
    provider_id, before = found.one()
    version = (before or 0) + 1
    row = Credential(
        connection_id=connection_id,
        provider_id=provider_id,
        version=version,
        state=state,
        key_id=vault.key_id,
        sealed=tokens.sealed(vault, connection_id, version),
        grants=grants,
        variables=variables or {},
        expires_at=expires_at,
        refresh_at=refresh_at,
        session_id=session_id,
        activated_at=func.now() if state == "active" else None,
    )
    session.add(row)
    await session.flush()
    return row


async def accept(session: AsyncSession, session_id: UUID, variables: dict[str, Any]) -> bool:
    """Account and grants are right: what a consent brought becomes a candidate. False when it is gone."""
    accepted = await session.execute(
        update(Credential)
        .where(Credential.session_id == session_id, Credential.state == "unchecked")
        .values(state="candidate", variables=variables)
        .returning(Credential.id)
    )
    return accepted.scalar() is not None


async def retire_active(session: AsyncSession, connection_id: UUID) -> None:
    await session.execute(
        update(Credential)
        .where(Credential.connection_id == connection_id, Credential.state == "active")
        .values(state="retired", retired_at=func.now())
    )


async def put_off(session: AsyncSession, connection_id: UUID, version: int, wait: timedelta | None) -> None:
    """No sweep refreshes this version before `wait` is over, or ever."""
    await session.execute(
        update(Credential)
        .where(Credential.connection_id == connection_id, Credential.version == version, Credential.state == "active")
        .values(refresh_at=None if wait is None else func.now() + wait)
    )


async def forget_retired(session: AsyncSession, kept: timedelta, most: int) -> int:
    """Delete at most so many of those that retired longer ago than `kept`. How many it deleted."""
    old = (
        select(Credential.id)
        .where(Credential.state == "retired", Credential.retired_at < func.now() - kept)
        .order_by(Credential.retired_at)
        .limit(most)
    )
    # By their keys, as an array: joined, so many would have the whole table read.
    gone = await session.execute(delete(Credential).where(Credential.id == any_(func.array(old.scalar_subquery()))))
    return gone.rowcount  # type: ignore[attr-defined, no-any-return]


async def activate(session: AsyncSession, connection_id: UUID, version: int) -> Credential | None:
    """Make a candidate the active version and retire the old one. None, and nothing changed, when it is none."""
    candidate = await session.scalar(
        select(Credential)
        .where(
            Credential.connection_id == connection_id, Credential.version == version, Credential.state == "candidate"
        )
        .with_for_update()
    )
    if candidate is None:
        return None
    await retire_active(session, connection_id)
    candidate.state, candidate.activated_at = "active", func.now()
    await session.flush()
    return candidate


async def discard_of(session: AsyncSession, session_id: UUID) -> None:
    """Forget what one consent brought that led nowhere: nothing of it stays."""
    await session.execute(
        delete(Credential).where(Credential.session_id == session_id, Credential.state.in_(("unchecked", "candidate")))
    )


async def discard_candidates(session: AsyncSession, connection_id: UUID) -> None:
    """Forget what any consent of a connection brought that is given up."""
    await session.execute(
        delete(Credential).where(
            Credential.connection_id == connection_id, Credential.state.in_(("unchecked", "candidate"))
        )
    )
