"""The app: routes, headers, and what every page has to hand."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from temporalio.client import Client

from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.errors import RunbookError
from integrations.providers.oauth import Providers
from web import callback, health, invitation, openapi
from web.headers import HEADERS
from web.ingress import InFront, Ingress
from web.pages import broken, not_ready, not_there, not_understood

log = structlog.get_logger("web")
_HERE: Final = Path(__file__).parent
_SELF: Final = "'self'"


@dataclass(frozen=True, slots=True)
class Platform:
    """What the web app needs, made by `web.wiring` or by a test."""

    sessions: Sessions
    vault: Vault
    providers: Providers
    temporal: Client
    base_url: str
    ingress: Ingress


def create_private_app(platform: Platform) -> FastAPI:
    """What only our own machines may ask, on a port of its own: health, readiness, metrics."""
    app = FastAPI(title="Integrations runbook, for those who run it", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.platform = platform
    app.include_router(health.router)
    return app


def create_app(platform: Platform) -> FastAPI:
    """What owners and providers reach. No documentation pages: it has no API for people to explore."""
    app = FastAPI(title="Integrations runbook", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.platform = platform
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    app.include_router(invitation.router)
    app.include_router(callback.router)

    app.add_exception_handler(RequestValidationError, not_understood)
    app.add_exception_handler(HTTPException, not_there)
    app.add_exception_handler(RunbookError, not_ready)

    @app.middleware("http")
    async def headers_and_log(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await proceed(request)
        except Exception:
            log.exception("request.failed")
            response = broken(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", _policy(platform))
        if platform.base_url.startswith("https://"):
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        route = request.scope.get("route")
        log.info(
            "request.answered",
            method=request.method,
            route=getattr(route, "path", "(none)"),
            status=response.status_code,
        )
        return response

    # Added last, so it is asked first: a provider's request meets nothing of the above.
    app.add_middleware(InFront, ingress=platform.ingress)
    openapi.document(app)
    return app


def _policy(platform: Platform) -> str:
    """Browsers apply form-action to every redirect behind a form, and providers lead on to hosts of their own choice.

    So any https address may follow the button, and besides those only a provider that runs on this machine.
    """
    urls = {urlsplit(provider.authorize_url) for provider in platform.providers.catalog}
    local = sorted({f"http://{url.netloc}" for url in urls if url.scheme == "http"})
    return (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action {' '.join([_SELF, 'https:', *local])}"
    )
