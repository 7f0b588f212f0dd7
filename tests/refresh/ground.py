"""Many connections at once, at several providers of the catalog that are all the same simulator."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from pydantic import SecretStr
from sqlalchemy import insert, select, update

from integrations.db.credentials import Tokens
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.providers.catalog import Catalog
from integrations.providers.oauth import Providers
from tests.factories import EVERYTHING


@dataclass(frozen=True)
class Due:
    """Connections that are due, each with its account at the simulator."""

    accounts: dict[UUID, str]
    http: httpx.AsyncClient

    @property
    def ids(self) -> list[UUID]:
        return list(self.accounts)

    async def revoke(self, *ids: UUID) -> None:
        for connection_id in ids:
            order = {"account_id": self.accounts[connection_id]}
            (await self.http.post("/admin/grants/revoke", json=order)).raise_for_status()

    async def breaks(self, *ids: UUID, **order: Any) -> None:
        """Order a fault for the token requests of these connections, or of everybody."""
        whom = {"account_id": [self.accounts[each] for each in ids]} if ids else {}
        order = {"path": "/oauth/token"} | whom | order
        (await self.http.post("/admin/faults", json=order)).raise_for_status()

    async def asked(self) -> list[str]:
        """The accounts that refreshes reached the simulator for, one for each request."""
        rows = (await self.http.get("/admin/requests", params={"path": "/oauth/token", "limit": 100_000})).json()
        ours = set(self.accounts.values())
        return [
            row["account_id"]
            for row in rows
            if row["account_id"] in ours and row["detail"].get("grant_type") == "refresh_token"
        ]


async def add_due(
    sessions: Sessions,
    vault: Vault,
    http: httpx.AsyncClient,
    count: int,
    *,
    provider_id: str = "simulator",
    status: Status = Status.ACTIVE,
    overdue: timedelta = timedelta(minutes=1),
    grants: Sequence[str] = tuple(EVERYTHING),
    tenants: Sequence[str] = ("acme",),
) -> Due:
    """Grants that live at the simulator and connections that hold them, of these tenants in turn, overdue so long."""
    minted = (
        (await http.post("/admin/grants/mint", json={"count": count, "scopes": list(grants)})).raise_for_status().json()
    )
    accounts = {uuid4(): grant for grant in minted}
    async with sessions.begin() as session:
        await session.execute(
            insert(Connection),
            [
                {
                    "id": each,
                    "provider_id": provider_id,
                    "scope_type": "org",
                    "scope_id": tenants[number % len(tenants)],
                    "status": status,
                    "status_reason": "connected",
                    "account_id": grant["account_id"],
                    "account_name": grant["email"],
                    "grants": list(grants),
                }
                for number, (each, grant) in enumerate(accounts.items())
            ],
        )
        await session.execute(
            insert(Credential),
            [
                {
                    "connection_id": each,
                    "provider_id": provider_id,
                    "version": 1,
                    "state": "active",
                    "key_id": vault.key_id,
                    "sealed": _tokens(grant).sealed(vault, each, 1),
                    "grants": list(grants),
                    "refresh_at": datetime.now(UTC) - overdue,
                }
                for each, grant in accounts.items()
            ],
        )
    return Due({each: grant["account_id"] for each, grant in accounts.items()}, http)


def _tokens(grant: dict[str, str]) -> Tokens:
    return Tokens(access_token=SecretStr(grant["access_token"]), refresh_token=SecretStr(grant["refresh_token"]))


def at_several(providers: Providers, *ids: str, **changes: Any) -> Providers:
    """The simulator's entry under several ids, each with the same client credentials."""
    entry = providers.catalog.provider("simulator")
    given = dict(providers.catalog._environment)
    for each in ids:
        for name in ("CLIENT_ID", "CLIENT_SECRET"):
            given[f"RUNBOOK_PROVIDER_{each.upper()}_{name}"] = given[f"RUNBOOK_PROVIDER_SIMULATOR_{name}"]
    entries = {each: entry.model_copy(update={"id": each, "name": each.title()} | changes) for each in ids}
    return Providers(Catalog({"simulator": entry} | entries, given), providers._http)


async def active(sessions: Sessions) -> dict[UUID, Credential]:
    """The active credential of each connection."""
    async with sessions.begin() as session:
        rows = await session.scalars(select(Credential).where(Credential.state == "active"))
        return {row.connection_id: row for row in rows}


async def statuses(sessions: Sessions) -> dict[UUID, str]:
    async with sessions.begin() as session:
        return {row.id: row.status for row in await session.scalars(select(Connection))}


async def make_due(sessions: Sessions) -> None:
    """Whatever is active is due."""
    async with sessions.begin() as session:
        due = datetime.now(UTC) - timedelta(minutes=1)
        await session.execute(update(Credential).where(Credential.state == "active").values(refresh_at=due))
