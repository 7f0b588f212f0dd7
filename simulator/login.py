"""Logging in to the provider itself, and out again. Both lead back to an authorization request, and nowhere else."""

from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from simulator.forms import Parameters, read_form
from simulator.identity import SESSION_COOKIE
from simulator.log import entry_of
from simulator.pages import error_page, page
from simulator.provider import provider_of

AUTHORIZE = "/oauth/authorize"


async def log_in(request: Request) -> Response:
    form, entry = await read_form(request), entry_of(request)
    target = safe_continuation(form.get("continue"))
    if target is None:
        return _nowhere_to_go(request)
    email = form.get("email") or ""
    session = provider_of(request).accounts.log_in(email, form.get("password") or "")
    entry.detail["logged_in"] = session is not None
    if session is None:
        return page("login.html", HTTPStatus.UNAUTHORIZED, continuation=target, email=email, wrong=True)
    entry.belongs_to(session.account.account_id, None)
    response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    # Lax, because the request that brings people here is a redirect from the application's site.
    response.set_cookie(SESSION_COOKIE, session.session_id, httponly=True, samesite="lax")
    return response


async def log_out(request: Request) -> Response:
    """Serve the "Use another account" link; a GET, as the worst it can do is to ask for a password again."""
    target = safe_continuation(Parameters(request.scope["query_string"]).get("continue"))
    if target is None:
        return _nowhere_to_go(request)
    provider_of(request).accounts.log_out(request.cookies.get(SESSION_COOKIE))
    response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE)
    return response


def safe_continuation(wanted: str | None) -> str | None:
    """Rebuild the address from our own path and the wanted query, so that no other host can be in it."""
    try:
        parts = urlsplit(wanted or "")
    except ValueError:
        return None
    if parts.scheme or parts.netloc or parts.path != AUTHORIZE:
        return None
    return f"{AUTHORIZE}?{parts.query}"


def _nowhere_to_go(request: Request) -> Response:
    entry_of(request).detail["error"] = "continuation"
    return error_page(
        HTTPStatus.BAD_REQUEST, "Nowhere to go back to", f"The field continue must be an address under {AUTHORIZE}."
    )


ROUTES = [Route("/login", log_in, methods=["POST"]), Route("/logout", log_out, methods=["GET"])]
