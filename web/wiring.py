"""The web process: constructs the app and serves it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from integrations import observability, settings, temporal
from integrations.db import binding, keys
from integrations.db.session import make_engine, make_sessions
from integrations.db.vault import Vault
from integrations.domain.errors import RunbookError
from integrations.observability import scrubbed
from integrations.providers import catalog
from integrations.providers.http import make_client
from integrations.providers.oauth import Providers
from integrations.settings import Settings
from web.app import Platform, create_app

log = structlog.get_logger("web")


@asynccontextmanager
async def platform(config: Settings) -> AsyncIterator[Platform]:
    """What the pages work with. Temporal may be down: consents are taken all the same."""
    engine, vault = make_engine(config.sqlalchemy_url), Vault(config.keys)
    try:
        async with make_client() as http:
            sessions = make_sessions(engine)
            async with sessions.begin() as session:
                await binding.check(session, config.sqlalchemy_url, temporal.target(config))
                await keys.check(session, vault, by="runbook web")
            yield Platform(
                sessions=sessions,
                vault=vault,
                providers=Providers(catalog.load(config.providers, config.simulator_url), http),
                temporal=await temporal.connect(config, lazy=True),
                base_url=config.web_url.rstrip("/"),
            )
    finally:
        await engine.dispose()


async def serve(config: Settings) -> None:
    async with platform(config) as parts:
        app: FastAPI = create_app(parts)
        # No access log: its lines would hold invitation links and codes. The app logs routes instead of addresses.
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=config.web_host,
                port=config.web_port,
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )
        log.info("web.started", url=config.web_url)
        await server.serve()


def main() -> None:
    """Entry of `python -m web`. Exit code 3 when the database cannot be reached, 1 when it refuses to start."""
    try:
        config = settings.load()
        observability.configure(as_json=config.log_json)
        asyncio.run(serve(config))
    except (settings.SettingsError, RunbookError) as error:
        sys.exit(f"the web app refuses to start: {error}")
    except (OSError, SQLAlchemyError) as error:
        log.error("web.unreachable", why=f"Postgres: {scrubbed(str(error))}")  # noqa: TRY400 - the message is the whole story
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
