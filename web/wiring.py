"""The web process: constructs the app and serves it."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

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
from web import ingress
from web.app import Platform, create_app, create_private_app

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
            known, base_url = catalog.load(config.providers, config.simulator_url), config.web_url.rstrip("/")
            async with ingress.opened(config.sqlalchemy_url, sessions, vault, known, base_url) as webhooks:
                yield Platform(
                    sessions=sessions,
                    vault=vault,
                    providers=Providers(known, http),
                    temporal=await temporal.connect(config, lazy=True),
                    base_url=base_url,
                    ingress=webhooks,
                )
    finally:
        await engine.dispose()


class _Server(uvicorn.Server):
    """Leaves signals to `serve`: uvicorn ends the process by the one that it caught, before anything is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(config: Settings) -> None:
    """Both ports, until a signal. The private one answers for as long as something is under way on the public one."""
    async with platform(config) as parts:
        public = _Server(served(create_app(parts), config.web_host, config.web_port))
        private = _Server(served(create_private_app(parts), config.web_private_host, config.web_private_port))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, public.handle_exit, number, None)
        beside = asyncio.create_task(private.serve())
        # What is there by now stays, and a request leaves few cycles: to look for them less often is 8 % of an ingress.
        gc.freeze()
        gc.set_threshold(10_000, 20, 100)
        log.info("web.started", url=config.web_url, private=f"{config.web_private_host}:{config.web_private_port}")
        try:
            await public.serve()
        finally:
            private.should_exit = True
            await beside


def served(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    """How an app is served here."""
    # No access log: its lines would hold invitation links and codes. The app logs routes instead of addresses.
    return uvicorn.Config(
        app,
        # The only one here that bounds a request's headers, whatever else is installed beside it.
        http="h11",
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


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
