"""The OAuth callback: keep the code, sealed; tell the lifecycle; show the person where it stands.

The commit comes first. When Temporal cannot be told now, reconcile tells it from the row.
"""

import hmac
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.service import RPCError

from integrations import temporal
from integrations.db import connections, presses
from integrations.db.tables import Connection, ConsentSession, ConsentState
from integrations.db.vault import digest
from integrations.domain.connection import reauth_id
from integrations.domain.reauth import ConsentDenied, ConsentReceived
from integrations.providers.mistakes import CatalogError
from web.invitation import COOKIE, DECLINED
from web.pages import platform, sorry

router = APIRouter()
log = structlog.get_logger("web")
_NAMED: Final = {
    "temporarily_unavailable": "the provider is busy at the moment",
    "server_error": "the provider has trouble at the moment",
    "invalid_scope": "the provider does not know a permission that we asked for; ours to mend",
    "unauthorized_client": "the provider does not accept us at the moment; ours to mend",
}
Parameter = Annotated[str | None, Query(max_length=4096)]


@router.get("/oauth/callback/{provider_id}")
async def callback(
    request: Request, provider_id: str, state: Parameter = None, code: Parameter = None, error: Parameter = None
) -> Response:
    """RFC 6749 section 4.1.2. Every answer is a page or the way to one; nothing of the query is repeated in it."""
    parts = platform(request)
    if not state or not (code or error):
        return sorry(
            request, "Something is missing", "Please open your invitation again and press its button.", status=400
        )
    async with parts.sessions.begin() as session:
        found = await presses.by_state(session, state)
        if found is None:
            text = "It was used before, or is not ours. Please open your invitation again and press its button."
            return sorry(request, "This answer is not expected", text, status=400)
        row, press, connection = found
        if connection.provider_id != provider_id:
            # An answer at another provider's address is a mix-up (RFC 9207 section 1), by mistake or on purpose.
            return sorry(request, "This answer is not expected", "It belongs to another provider.", status=400)
        if not _same_browser(request, press):
            text = (
                "Please open your invitation in the browser in which you want to consent, and press its button there."
            )
            return sorry(request, "Another browser was used", text, status=400)
        message = (
            await _keep(request, session, row, press, code)
            if code
            else await _note(session, row, press, connection, error or "")
        )
    if message is not None:
        # Not written down: a signal that comes twice counts once, and reconcile sends one that may have been lost.
        await _tell(request, reauth_id(provider_id, row.connection_id), message)
    # The status page's address holds no code: the browser's history keeps that one.
    return RedirectResponse(f"/reconsent/{parts.vault.link_token(row.id)}/status", status_code=303)


async def _keep(
    request: Request, session: AsyncSession, row: ConsentSession, press: ConsentState, code: str
) -> ConsentReceived | None:
    """What to tell the lifecycle; None for a code that came before, or too late."""
    told = _also_told(request, request.path_params["provider_id"])
    if not await presses.receive(session, platform(request).vault, row, press, code, told):
        return None
    return ConsentReceived(session_id=row.id, lifecycle_id=row.lifecycle_id)


async def _note(
    session: AsyncSession, row: ConsentSession, press: ConsentState, connection: Connection, error: str
) -> ConsentDenied | None:
    """RFC 6749 section 4.1.2.1: every error but one is the provider's trouble, or ours, and nobody's decision."""
    declined = error == "access_denied"
    why = DECLINED if declined else _NAMED.get(error, "the provider reported an error")
    await connections.lock(session, connection.id)
    if not await presses.refuse(session, row, press, declined=declined, why=why) or not declined:
        return None
    return ConsentDenied(session_id=row.id, lifecycle_id=row.lifecycle_id)


def _also_told(request: Request, provider_id: str) -> dict[str, str]:
    """What else the provider tells here, such as a company's number. Its entry says what that may look like."""
    try:
        provider = platform(request).providers.catalog.provider(provider_id)
    except CatalogError:  # the entry is gone: the code must not be lost for it
        return {}
    return provider.values_of("callback", dict(request.query_params))


def _same_browser(request: Request, press: ConsentState) -> bool:
    cookie = request.cookies.get(COOKIE)
    return cookie is not None and hmac.compare_digest(digest(cookie), press.browser_hash)


async def _tell(request: Request, workflow_id: str, message: ConsentReceived | ConsentDenied) -> None:
    try:
        await temporal.signal_consent(platform(request).temporal, workflow_id, message)
    except (RPCError, RuntimeError) as error:
        log.warning("consent.not_signalled", workflow_id=workflow_id, why=type(error).__name__)
