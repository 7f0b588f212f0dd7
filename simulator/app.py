"""The application: every room of the provider behind the request log and the faults."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from simulator import (
    admin,
    admin_dialect,
    admin_grants,
    admin_inbox,
    admin_mail,
    admin_webhooks,
    api,
    authorize,
    break_it,
    dialect_api,
    login,
    token_routes,
)
from simulator.config import Config
from simulator.date_header import DateMiddleware
from simulator.dialect_middleware import DialectMiddleware
from simulator.fault_middleware import FaultMiddleware
from simulator.inbox_middleware import InboxMiddleware
from simulator.log import RequestLogMiddleware
from simulator.problems import refusal
from simulator.provider import Provider


def create_app(config: Config) -> FastAPI:
    provider = Provider.build(config)

    @asynccontextmanager
    async def open_until_shutdown(_app: FastAPI) -> AsyncIterator[None]:
        yield
        provider.store.close()

    # FastAPI's own documentation pages load scripts from elsewhere; this provider must work without a network.
    app = FastAPI(
        title="Provider simulator",
        docs_url=None,
        redoc_url=None,
        openapi_url="/admin/openapi.json",
        lifespan=open_until_shutdown,
    )
    app.state.provider = provider
    # Plain routes where the benches go: they need no validation, and FastAPI's costs more than the work itself.
    for rooms in (api, authorize, break_it, dialect_api, login, token_routes):
        app.router.routes.extend(rooms.ROUTES)
    app.include_router(admin.router)
    app.include_router(admin_grants.router)
    app.include_router(admin_dialect.router)
    app.include_router(admin_inbox.router)
    app.include_router(admin_mail.router)
    app.include_router(admin_webhooks.router)
    # The one added last stands outermost: what a fault swallows is logged too.
    app.add_middleware(FaultMiddleware, provider=provider)
    app.add_middleware(DialectMiddleware, provider=provider)
    app.add_middleware(InboxMiddleware, provider=provider)
    app.add_middleware(RequestLogMiddleware, log=provider.log)
    app.add_middleware(DateMiddleware, clock=provider.clock)
    app.add_exception_handler(RequestValidationError, _refuse)
    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal(error.errors())
