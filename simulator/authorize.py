"""The authorization endpoint (RFC 6749 section 3.1): who are you, and what do you allow?"""

import secrets
from http import HTTPStatus
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.base import invalid_error_characters
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from simulator.accounts import Session
from simulator.forms import Parameters, read_form
from simulator.identity import SESSION_COOKIE
from simulator.log import entry_of
from simulator.oauth import OAuthRequest
from simulator.pages import error_page, page
from simulator.provider import provider_of
from simulator.scopes import SCOPES


async def ask(request: Request) -> Response:
    """GET: the login page, or the consent page for who is logged in."""
    asked = _read(request)
    grant = _valid_grant(request, asked)
    if isinstance(grant, Response):
        return grant
    continuation = f"{request.url.path}?{request.url.query}"
    session = _session(request)
    if session is None:
        entry_of(request).detail["prompted"] = "login"
        return page("login.html", continuation=continuation, email="", wrong=False)
    entry_of(request).detail["prompted"] = "consent"
    return page(
        "consent.html",
        app_name=provider_of(request).config.client_name,
        account=session.account,
        scopes=[(name, SCOPES.get(name, name)) for name in dict.fromkeys(asked.scope.split())],
        csrf=session.csrf,
        continuation=continuation,
    )


async def decide(request: Request) -> Response:
    """POST: the button that was pressed, with the scopes that stayed ticked."""
    asked, form = _read(request), await read_form(request)
    grant = _valid_grant(request, asked)
    if isinstance(grant, Response):
        return grant
    session = _session(request)
    if session is None:
        return RedirectResponse(f"{request.url.path}?{request.url.query}", HTTPStatus.SEE_OTHER)
    if not secrets.compare_digest((form.get("csrf") or "").encode(), session.csrf.encode()):
        entry_of(request).detail["error"] = "csrf"
        return error_page(
            HTTPStatus.FORBIDDEN, "This form is not yours", "Its csrf field is wrong. Please start again."
        )
    entry_of(request).belongs_to(session.account.account_id, None)
    ticked = form.datalist["scope"]
    asked.granted_scope = " ".join(name for name in dict.fromkeys(asked.scope.split()) if name in ticked)
    # Whoever unticks everything and presses "Allow" has allowed nothing.
    allowed = form.get("decision") == "allow" and bool(asked.granted_scope)
    entry_of(request).detail.update(decision="allow" if allowed else "deny", granted=asked.granted_scope)
    response: Response = provider_of(request).oauth.create_authorization_response(
        asked, grant_user=session.account if allowed else None, grant=grant
    )
    return response


def _read(request: Request) -> OAuthRequest:
    query, entry = Parameters(request.scope["query_string"]), entry_of(request)
    provider_of(request).sightings.saw("state", query.get("state"))
    known = [name for name in (query.get("scope") or "").split() if name in provider_of(request).oauth.scopes_supported]
    entry.detail.update(
        pkce="S256" if query.get("code_challenge") and query.get("code_challenge_method") == "S256" else None,
        scope=" ".join(known),
        prompted=None,
    )
    return OAuthRequest(entry, request.headers, query, provider_of(request).clock.at(entry.at))


def _valid_grant(request: Request, asked: OAuthRequest) -> Any:
    """Return Authlib's grant, or the refusal; only a known client's own address is ever redirected to."""
    for name in ("response_type", "redirect_uri"):
        # Authlib repeats these in error texts and raises ValueError on what RFC 6749 appendix A does not allow there.
        if invalid_error_characters(asked.payload.get(name) or ""):
            return _refusal(request, "invalid_request", f"{name} holds characters that cannot be in one.")
    oauth = provider_of(request).oauth
    try:
        return oauth.get_consent_grant(asked)
    except OAuth2Error as error:
        if error.redirect_uri:
            return oauth.handle_error_response(asked, error)
        return _refusal(request, error.error, error.get_error_description())


def _refusal(request: Request, error: str, description: str) -> Response:
    entry_of(request).detail["error"] = error
    return error_page(HTTPStatus.BAD_REQUEST, "This link cannot be used", f"{error}: {description}")


def _session(request: Request) -> Session | None:
    session = provider_of(request).accounts.session(request.cookies.get(SESSION_COOKIE))
    if session:
        entry_of(request).belongs_to(session.account.account_id, None)
    return session


ROUTES = [Route("/oauth/authorize", ask, methods=["GET"]), Route("/oauth/authorize", decide, methods=["POST"])]
