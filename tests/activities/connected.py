"""A connection that really is connected: its tokens are the simulator's."""

from typing import Any

import httpx

from integrations.db.credentials import Tokens
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.providers.catalog import Catalog
from integrations.providers.oauth import Providers
from tests.factories import add_connection, add_credential
from tests.providers.person import Person


async def connected(
    sessions: Sessions, vault: Vault, providers: Providers, person: Person, **changes: Any
) -> Connection:
    given = {"account_id": person.id, "account_name": person.email} | changes
    connection = await add_connection(sessions, **given)
    granted = await person.connects(providers.client("simulator"))
    tokens = Tokens(access_token=granted.access_token, refresh_token=granted.refresh_token)
    await add_credential(sessions, vault, connection.id, tokens)
    return connection


def altered(
    providers: Providers,
    *,
    http: httpx.AsyncClient | None = None,
    environment: dict[str, str] | None = None,
    **changes: Any,
) -> Providers:
    """The same catalog with changes to the simulator's entry, another client, or other client credentials."""
    entry = providers.catalog.provider("simulator").model_copy(update=changes)
    given = environment if environment is not None else dict(providers.catalog._environment)
    return Providers(Catalog({"simulator": entry}, given), http or providers._http, providers._record)
