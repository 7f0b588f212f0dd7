"""For whoever restarts processes: alive, ready, and how much of what. On the private port."""

from asyncpg import PostgresError
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio.service import RPCError

from integrations.db.webhook_probe import probe
from web.pages import platform

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Can it do its work? 503 without the database, or when its ledger of webhooks takes no row.

    Without Temporal consents and webhooks are taken all the same, and the answer says so.
    """
    parts = platform(request)
    found = {"database": "ok", "webhook ledger": "ok", "temporal": "ok"}
    try:
        async with parts.sessions.begin() as session:
            await session.execute(text("SELECT 1"))
    except (OSError, SQLAlchemyError, PostgresError) as error:
        found["database"] = found["webhook ledger"] = f"does not answer ({type(error).__name__})"
    else:
        try:
            await probe(parts.sessions)
        except (OSError, SQLAlchemyError, PostgresError) as error:
            found["webhook ledger"] = f"takes no row ({_cause(error)})"
    try:
        await parts.temporal.service_client.check_health()
    except (RPCError, RuntimeError) as error:
        found["temporal"] = f"does not answer ({type(error).__name__}); what comes in is kept and taken up later"
    ready = found["database"] == found["webhook ledger"] == "ok"
    return JSONResponse(found, status_code=200 if ready else 503)


@router.get("/metrics")
async def metrics() -> Response:
    """As Prometheus reads it: `services_webhook_total{provider,outcome}` and what its client tells of the process."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _cause(error: Exception) -> str:
    """The driver's own name for it, which says more than SQLAlchemy's."""
    return type(getattr(error, "orig", None) or error).__name__
