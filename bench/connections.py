"""Connections in bulk: active, with a credential, and the row that says that its grant was found dead."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import insert

from bench.stage import Stage
from integrations.db.credentials import Tokens
from integrations.db.tables import Connection, Credential, GrantEvent
from integrations.domain.connection import Status
from integrations.domain.reauth import Detected

GRANTS: Final = ["notes.read", "notes.write", "profile"]
_AHEAD: Final = timedelta(hours=1)
"""When the rows were noticed: reconcile, which announces what nobody has for 20 s, leaves them to the driver."""


async def add_revoked(stage: Stage, count: int) -> list[tuple[UUID, UUID]]:
    """Connection and detection of each. No lifecycle has opened for them yet."""
    vault = stage.vault
    ids = [(uuid4(), uuid4()) for _ in range(count)]
    tokens = Tokens(access_token=SecretStr("dead"), refresh_token=SecretStr("dead as well"))
    async with stage.sessions.begin() as session:
        await session.execute(insert(Connection), [_connection(each) for each, _ in ids])
        await session.execute(
            insert(Credential),
            [
                {
                    "connection_id": each,
                    "version": 1,
                    "state": "active",
                    "key_id": vault.key_id,
                    "sealed": tokens.sealed(vault, each, 1),
                    "grants": GRANTS,
                }
                for each, _ in ids
            ],
        )
        await session.execute(insert(GrantEvent), [_detection(each, event) for each, event in ids])
    return ids


def _connection(connection_id: UUID) -> dict[str, object]:
    return {
        "id": connection_id,
        "provider_id": "simulator",
        "scope_type": "org",
        "scope_id": "acme",
        "status": Status.ACTIVE,
        "status_reason": "connected",
        "account_id": "acct_ada",
        "account_name": "ada@acme.example",
        "grants": GRANTS,
    }


def _detection(connection_id: UUID, event_id: UUID) -> dict[str, object]:
    return {
        "id": event_id,
        "connection_id": connection_id,
        "kind": Detected.REVOKED,
        "cause": "the provider says that the grant is dead (invalid_grant)",
        "actor": "RefreshWorkflow",
        "credential_version": 1,
        "evidence": {"status": 400, "error": "invalid_grant"},
        "noticed_at": datetime.now(UTC) + _AHEAD,
    }
