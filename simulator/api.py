"""The API behind the scopes (RFC 6750): who am I, and my notes."""

import re
from typing import Annotated

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6750 import BearerTokenValidator, InsufficientScopeError, InvalidTokenError
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulator.fingerprint import fingerprint
from simulator.identity import bearer_token
from simulator.log import entry_of
from simulator.problems import refusal
from simulator.provider import provider_of
from simulator.tokens import AccessToken

NEWEST_NOTES = 100
_VALIDATOR = BearerTokenValidator()
"""Authlib's rules and answers; the token is looked up before, because the log wants it whatever the verdict."""

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class NewNote(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


async def me(request: Request) -> Response:
    """Whose token is this? Every application may know that much."""
    return _about(request, None)


async def profile(request: Request) -> Response:
    return _about(request, "profile")


def _about(request: Request, scope: str | None) -> Response:
    token = authorized(request, scope)
    if isinstance(token, Response):
        return token
    account = provider_of(request).accounts.get(token.account_id)
    assert account is not None
    return JSONResponse({"id": account.account_id, "email": account.email, "name": account.name})


async def read_notes(request: Request) -> Response:
    token = authorized(request, "notes.read")
    if isinstance(token, Response):
        return token
    notes = provider_of(request).notes.newest(token.account_id, NEWEST_NOTES)
    return JSONResponse({"notes": [note.view() for note in notes]})


async def write_note(request: Request) -> Response:
    token = authorized(request, "notes.write")
    if isinstance(token, Response):
        return token
    key, entry = request.headers.get("idempotency-key"), entry_of(request)
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        return refusal("Idempotency-Key: 1 to 200 visible ASCII characters")
    entry.detail["idempotency_key"] = key
    try:
        new = NewNote.model_validate_json(await request.body())
    except ValidationError as error:
        return refusal(error.errors())
    provider = provider_of(request)
    note, created = provider.notes.add(token.account_id, new.text, key, provider.clock.at(entry.at))
    return JSONResponse(note.view(), 201 if created else 200)


def authorized(request: Request, scope: str | None) -> AccessToken | Response:
    """Return the token, or the refusal with the header that RFC 6750 section 3 asks for."""
    entry, presented = entry_of(request), bearer_token(request.headers)
    provider = provider_of(request)
    token = provider.tokens.access(presented, provider.clock.at(entry.at)) if presented else None
    entry.detail.update(scope_needed=scope, token_fp=fingerprint(presented) if presented else None)
    if token:
        entry.belongs_to(token.account_id, token.grant_id)
    try:
        _VALIDATOR.validate_token(token, [scope] if scope else [], request)
    except InsufficientScopeError as error:
        challenge = f'Bearer error="{error.error}", scope="{scope}"'
        return _refuse(request, error, {"WWW-Authenticate": challenge}, {"scope": scope})
    except InvalidTokenError as error:
        return _refuse(request, error, dict(error.get_headers()), {})
    assert token is not None
    return token


def _refuse(request: Request, error: OAuth2Error, headers: dict[str, str], more: dict[str, str | None]) -> Response:
    entry_of(request).detail["error"] = error.error
    return JSONResponse({**dict(error.get_body()), **more}, error.status_code, headers)


ROUTES = [
    Route("/api/me", me, methods=["GET"]),
    Route("/api/profile", profile, methods=["GET"]),
    Route("/api/notes", read_notes, methods=["GET"]),
    Route("/api/notes", write_note, methods=["POST"]),
]
