"""For whoever restarts processes: alive, and ready."""

from asyncpg import PostgresError
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio.service import RPCError

from web.pages import platform

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Can it do its work? 503 without the database. Without Temporal it still takes consents, and says so."""
    parts = platform(request)
    found = {"database": "ok", "temporal": "ok"}
    try:
        async with parts.sessions.begin() as session:
            await session.execute(text("SELECT 1"))
    except (OSError, SQLAlchemyError, PostgresError) as error:
        found["database"] = f"does not answer ({type(error).__name__})"
    try:
        await parts.temporal.service_client.check_health()
    except (RPCError, RuntimeError) as error:
        found["temporal"] = f"does not answer ({type(error).__name__}); consents are kept and taken up later"
    return JSONResponse(found, status_code=200 if found["database"] == "ok" else 503)
