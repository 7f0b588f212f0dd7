"""The invitation: a page that burns nothing, a button to the provider, a status page that follows to the end."""

import re
import secrets
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import consents, presses
from integrations.db.tables import Connection, ConsentSession
from integrations.domain.connection import Status, masked
from web.pages import page, platform, sorry

router = APIRouter()
COOKIE: Final = "runbook_browser"
_BROWSER: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""256 bits in base64url, as minted below."""
DECLINED: Final = "you declined"


@router.get("/reconsent/{token}")
@router.head("/reconsent/{token}", include_in_schema=False)
async def show(request: Request, token: str) -> Response:
    """Who asks for what, and why. Opening it changes nothing, so a mail scanner may open it too."""
    parts = platform(request)
    async with parts.sessions.begin() as session:
        row = await consents.by_link(session, token)
        if row is None:
            return _unknown(request)
        if row.status == "invited" and row.expires_at > datetime.now(UTC):
            connection = await session.get_one(Connection, row.connection_id)
            provider = parts.providers.catalog.provider(connection.provider_id)
            return page(
                request,
                "invitation.html",
                provider=provider.name,
                account=masked(connection.account_name) if connection.account_name else None,
                why=row.why,
                grants=row.asked_grants,
                until=row.expires_at,
            )
    return RedirectResponse(f"/reconsent/{token}/status", status_code=303)


@router.post("/reconsent/{token}")
async def go(request: Request, token: str) -> Response:
    """The button: mint state and verifier for this browser, and send it to the provider (RFC 6749 section 4.1.1)."""
    parts = platform(request)
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    # A second tab is the same browser: with a fresh name it would void the first one's press.
    known = request.cookies.get(COOKIE, "")
    browser = known if _BROWSER.fullmatch(known) else secrets.token_urlsafe(32)
    async with parts.sessions.begin() as session:
        row = await consents.by_link(session, token)
        if row is None:
            return _unknown(request)
        if not await presses.mint(session, parts.vault, row.id, state=state, verifier=verifier, browser=browser):
            return RedirectResponse(f"/reconsent/{token}/status", status_code=303)
        connection = await session.get_one(Connection, row.connection_id)
    client = parts.providers.client(connection.provider_id, connection.variables)
    address = client.authorize_url(
        redirect_uri=f"{parts.base_url}/oauth/callback/{connection.provider_id}",
        grants=list(row.asked_grants),
        state=state,
        verifier=verifier,
    )
    answer = RedirectResponse(address, status_code=303)
    # The callback must come from the browser that pressed the button (RFC 6749 section 10.12).
    answer.set_cookie(
        COOKIE,
        browser,
        max_age=int(presses.LIFE.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=parts.base_url.startswith("https://"),
        path="/",
    )
    return answer


@router.get("/reconsent/{token}/status")
@router.head("/reconsent/{token}/status", include_in_schema=False)
async def status(request: Request, token: str) -> Response:
    """Where the consent stands. Reloads itself until there is an end to tell."""
    parts = platform(request)
    async with parts.sessions.begin() as session:
        row = await consents.by_link(session, token)
        if row is None:
            return _unknown(request)
        connection = await session.get_one(Connection, row.connection_id)
        newer = await _newer(session, row)
    provider = parts.providers.catalog.provider(connection.provider_id)
    return page(
        request,
        "status.html",
        provider=provider.name,
        row=row,
        under_way=row.status in consents.ON_ITS_WAY,
        connected=connection.status == Status.ACTIVE,
        # Whoever holds an old link of this lifecycle is its invitee, and may go on with the new one.
        again=f"/reconsent/{parts.vault.link_token(newer)}" if newer else None,
    )


async def _newer(session: AsyncSession, row: ConsentSession) -> UUID | None:
    """The invitation to go on with: this one while it waits, or the one that took its place."""
    current = await consents.open_session(session, row.lifecycle_id)
    waits = current is not None and current.status == "invited" and current.expires_at > datetime.now(UTC)
    return current.id if waits and current is not None else None


def _unknown(request: Request) -> Response:
    text = "Please check that the whole link was copied, or ask whoever sent it to you for a new one."
    return sorry(request, "This invitation is not known", text, status=404)
