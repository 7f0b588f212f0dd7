"""Rows with sensible defaults, for tests of what is done with them."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import select

from integrations.db import consents, contact_addresses, credentials, webhook_channels, webhook_secrets
from integrations.db.base import Base
from integrations.db.credentials import Tokens
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, Credential
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.keyring import Ring
from integrations.keyring import KeysFile

Row = TypeVar("Row", bound=Base)
EVERYTHING = ["notes.read", "notes.write", "profile"]


def tokens(name: str = "1") -> Tokens:
    return Tokens(access_token=SecretStr(f"access-{name}"), refresh_token=SecretStr(f"refresh-{name}"))


async def add_connection(sessions: Sessions, **changes: Any) -> Connection:
    """An active connection of acme at the simulator."""
    given: dict[str, Any] = {
        "id": uuid4(),
        "provider_id": "simulator",
        "scope_type": "org",
        "scope_id": "acme",
        "status": Status.ACTIVE,
        "status_reason": "connected",
        "account_id": "acct_ada",
        "account_name": "ada@acme.example",
        "grants": EVERYTHING,
    }
    row = Connection(**(given | changes))
    async with sessions.begin() as session:
        session.add(row)
    return row


async def add_credential(
    sessions: Sessions, vault: Vault, connection_id: UUID, given: Tokens | None = None, **changes: Any
) -> Credential:
    """The next version of a connection's credential, active unless said otherwise."""
    options: dict[str, Any] = {"state": "active", "grants": EVERYTHING, "expires_at": None} | changes
    async with sessions.begin() as session:
        return await credentials.add(session, vault, connection_id, given or tokens(), **options)


async def add_invitation(
    sessions: Sessions, vault: Vault, connection: Connection, lifecycle_id: UUID, **changes: Any
) -> ConsentSession:
    """An invitation that waits for its owner for another day."""
    options: dict[str, Any] = {"asked": EVERYTHING, "why": "revoked", "expires_at": soon()} | changes
    async with sessions.begin() as session:
        return await consents.invite(session, vault, connection, lifecycle_id=lifecycle_id, **options)


async def add_address(
    sessions: Sessions, vault: Vault, audience: str, name: str = "", channel: str = "email", **changes: str
) -> None:
    """Ada's mailbox, unless said otherwise."""
    given = {
        "address": "ada@acme.example",
        "secret": "",
        "origin": "mail",
        "shown": "a••@acme.example",
        "by": "the test",
    } | changes
    async with sessions.begin() as session:
        await contact_addresses.put(session, vault, audience=audience, name=name, channel=channel, **given)


async def add_channel(
    sessions: Sessions,
    vault: Vault,
    provider_id: str = "simulator",
    channel: str = "app",
    *,
    secret: bytes = b"a secret of the tests",
    connection_id: UUID | None = None,
    overlap: timedelta = timedelta(hours=24),
) -> None:
    """A channel of all of the provider's connections, unless said otherwise, and one more secret of it."""
    async with sessions.begin() as session:
        given: dict[str, Any] = {"by": "the test", "reason": "tested"}
        await webhook_channels.make(session, provider_id, channel, connection_id=connection_id, **given)
        await webhook_secrets.add(session, vault, provider_id, channel, secret, overlap=overlap, **given)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


async def stored(sessions: Sessions, kind: type[Row], key: object, /) -> Row:
    """A row as it is committed, read anew."""
    async with sessions.begin() as session:
        return await session.get_one(kind, key)


async def every(sessions: Sessions, kind: type[Row], /, **wanted: Any) -> list[Row]:
    """All committed rows of a kind whose columns are as wanted."""
    async with sessions.begin() as session:
        return list((await session.scalars(select(kind).filter_by(**wanted))).all())


def keys_file(folder: Path, *ids: str) -> KeysFile:
    """A ring in a file; the first key seals, the others are staged."""
    file = KeysFile(folder / "keys.json")
    keys = {key_id: os.urandom(32) for key_id in ids or ("k1",)}
    file.create(Ring(next(iter(keys)), keys, os.urandom(32)))
    return file
