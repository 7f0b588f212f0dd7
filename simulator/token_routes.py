"""What applications call: token (RFC 6749 section 3.2), revocation (RFC 7009) and introspection (RFC 7662)."""

from http import HTTPStatus

from authlib.oauth2.rfc6749 import InvalidRequestError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.forms import Parameters, read_form
from simulator.identity import token_request_detail
from simulator.log import entry_of
from simulator.oauth import OAuthRequest
from simulator.provider import Provider, provider_of


async def token(request: Request) -> Response:
    provider, oauth_request = provider_of(request), await _read(request)
    if refused := _malformed(provider, oauth_request, needed="grant_type"):
        return refused
    # Nothing is awaited in here, so two requests with the same token are judged one after the other.
    with provider.store.transaction():
        response: Response = provider.oauth.create_token_response(oauth_request)
    return response


async def revoke(request: Request) -> Response:
    provider, oauth_request = provider_of(request), await _read(request)
    if refused := _malformed(provider, oauth_request, needed="token"):
        return refused
    response: Response = provider.oauth.create_endpoint_response("revocation", oauth_request)
    return response


async def introspect(request: Request) -> Response:
    provider, oauth_request = provider_of(request), await _read(request)
    if not provider.settings.current.introspection:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    if refused := _malformed(provider, oauth_request, needed="token"):
        return refused
    response: Response = provider.oauth.create_endpoint_response("introspection", oauth_request)
    return response


async def _read(request: Request) -> OAuthRequest:
    form, entry = await read_form(request), entry_of(request)
    entry.detail.update(token_request_detail(form))
    _remember_secrets(provider_of(request), form)
    return OAuthRequest(entry, request.headers, form, provider_of(request).clock.at(entry.at))


def _malformed(provider: Provider, request: OAuthRequest, needed: str) -> Response | None:
    """Answer what RFC 6749 section 5.2 calls invalid_request, where Authlib would say something less exact."""
    form: Parameters = request.payload
    if repeated := form.repeated():
        known = repeated if repeated.isidentifier() and repeated.isascii() else "a parameter"
        return provider.oauth.handle_error_response(request, InvalidRequestError(f"'{known}' came more than once"))
    if form.get(needed) is None:
        return provider.oauth.handle_error_response(request, InvalidRequestError(f"Missing '{needed}' in request."))
    return None


def _remember_secrets(provider: Provider, form: Parameters) -> None:
    provider.sightings.saw("code_verifier", form.get("code_verifier"))
    # What carries our mark was issued here and is kept where it was issued.
    for name in ("code", "refresh_token", "token", "client_secret"):
        value = form.get(name)
        if value and not value.startswith("sim_") and value != provider.config.client_secret:
            provider.sightings.saw(name, value)


ROUTES = [
    Route("/oauth/token", token, methods=["POST"]),
    Route("/oauth/revoke", revoke, methods=["POST"]),
    Route("/oauth/introspect", introspect, methods=["POST"]),
]
