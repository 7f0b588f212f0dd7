"""Connections whose accounts and grants the provider made at once: nobody went through its pages for them."""

from datetime import timedelta
from itertools import cycle
from typing import Final
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import func, insert

from integrations.db.credentials import Tokens
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from starters.demo.scene import Scene

_GRANTS: Final = ["notes.read", "notes.write", "profile"]


async def connect(scene: Scene, count: int, *owners: str, due_in: timedelta = timedelta(0)) -> dict[UUID, str]:
    """So many connections of each of these organisations, due for a refresh then: their accounts at the provider."""
    vault = Vault(scene.stack.settings.keys)
    minted = {uuid4(): grant for grant in await scene.simulator.mint(count * len(owners))}
    async with scene.sessions.begin() as session:
        await session.execute(
            insert(Connection),
            [
                {
                    "id": connection_id,
                    "provider_id": "simulator",
                    "scope_type": "org",
                    "scope_id": owner,
                    "status": Status.ACTIVE,
                    "status_reason": "the demo's, connected",
                    "account_id": grant["account_id"],
                    "account_name": grant["email"],
                    "grants": _GRANTS,
                }
                for (connection_id, grant), owner in zip(minted.items(), cycle(owners), strict=False)
            ],
        )
        await session.execute(
            insert(Credential).values(refresh_at=func.now() + due_in),
            [
                {
                    "connection_id": connection_id,
                    "provider_id": "simulator",
                    "version": 1,
                    "state": "active",
                    "key_id": vault.key_id,
                    "sealed": _tokens(grant).sealed(vault, connection_id, 1),
                    "grants": _GRANTS,
                }
                for connection_id, grant in minted.items()
            ],
        )
    return {connection_id: grant["account_id"] for connection_id, grant in minted.items()}


def _tokens(grant: dict[str, str]) -> Tokens:
    return Tokens(access_token=SecretStr(grant["access_token"]), refresh_token=SecretStr(grant["refresh_token"]))
