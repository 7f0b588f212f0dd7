"""From the simulator's answers to a dialect's: tokens, errors, and the way back to the application."""

import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import MutableHeaders

from simulator.dialect import UNSCOPED, Dialect
from simulator.dialect_requests import Room
from simulator.places import put, put_all

SERVER_ERROR = 500
RESET_AFTER_S = 30


def answer(
    dialect: Dialect, room: Room, status: int, headers: MutableHeaders, body: bytes, now: float
) -> tuple[int, bytes]:
    """Translate an answer: changes its headers, returns its status and body."""
    if room is Room.AUTHORIZE:
        _way_back(dialect, headers)
        return status, body
    told = _json(headers, body)
    if not isinstance(told, dict):
        return status, body
    if isinstance(told.get("error"), str):
        status, told = _error(dialect, room, status, headers, told, now)
    elif "access_token" in told:
        told = _tokens(dialect, told)
    else:
        return status, body
    body = json.dumps(told).encode()
    headers["content-length"] = str(len(body))
    return status, body


def _way_back(dialect: Dialect, headers: MutableHeaders) -> None:
    location = headers.get("location")
    if location and "code" in parse_qs(urlsplit(location).query) and dialect.callback:
        headers["location"] = f"{location}&{urlencode(dialect.callback)}"


def _json(headers: MutableHeaders, body: bytes) -> Any:
    if headers.get("content-type") != "application/json":
        return None
    try:
        return json.loads(body)
    except ValueError:  # a fault's: half of a document, or none
        return None


def _error(
    dialect: Dialect, room: Room, status: int, headers: MutableHeaders, told: dict[str, Any], now: float
) -> tuple[int, Any]:
    own, said = told["error"], dialect.words.get(told["error"])
    place = dialect.api_error_at if room is Room.API else dialect.token_error_at
    if said is not None or place != "error":
        # The challenge says the error too, in RFC 6750's words (section 3).
        del headers["www-authenticate"]
    if said is not None and said.status is not None and status < SERVER_ERROR:
        status = said.status
    if own == "too_many_requests" and dialect.quota is not None:
        headers[dialect.quota.remaining] = "0"
        if dialect.quota.reset is not None:
            headers[dialect.quota.reset] = str(int(now) + RESET_AFTER_S)
    return status, put(told if place == "error" else None, place, own if said is None else said.word)


def _tokens(dialect: Dialect, told: dict[str, Any]) -> Any:
    told = dict(told)
    scopes = [scope for scope in str(told.pop("scope", "")).split() if scope != UNSCOPED]
    implied = {scope for name in scopes for scope in dialect.implied.get(name, ())}
    named = [scope for scope in scopes if scope not in implied]
    if named:
        separator = dialect.granted_separator
        told = put(told, dialect.granted_at, named if separator is None else separator.join(named))
    if dialect.expires_in != "number":
        lasts = told.pop("expires_in", None)
        told |= {} if dialect.expires_in == "absent" else {"expires_in": str(lasts)}
    if dialect.renewal.sends == "access_token":
        told.pop("refresh_token", None)
    return put_all(told, dialect.token_members)
