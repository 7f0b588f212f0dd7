"""The catalog knows many providers; a worker polls for those that it can be asked for."""

from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db.session import Sessions
from integrations.providers import catalog
from tests.factories import add_connection
from worker.wiring import served_providers

CREDENTIALS = {"RUNBOOK_PROVIDER_SLACK_CLIENT_ID": "id", "RUNBOOK_PROVIDER_SLACK_CLIENT_SECRET": "secret"}


async def test_those_with_client_credentials_and_those_of_connections(engine: AsyncEngine, sessions: Sessions) -> None:
    await add_connection(sessions, provider_id="github")
    await add_connection(sessions, provider_id="github")
    await add_connection(sessions, provider_id="gone-from-the-catalog")

    assert await served_providers(engine, catalog.load(environment=CREDENTIALS)) == ["github", "slack"]


async def test_none_that_nobody_has_configured_or_connected(engine: AsyncEngine) -> None:
    half = {"RUNBOOK_PROVIDER_SLACK_CLIENT_ID": "id"}

    assert await served_providers(engine, catalog.load(environment=half)) == []
