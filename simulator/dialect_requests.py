"""From a dialect's requests to the simulator's own: where they go, and what is said in them."""

from enum import StrEnum
from urllib.parse import parse_qsl, unquote, urlencode

from starlette.datastructures import Headers, MutableHeaders

from simulator import dialect_api
from simulator.dialect import UNSCOPED, Dialect, Endpoint

Pairs = list[tuple[str, str]]


class Room(StrEnum):
    """The simulator's own paths."""

    AUTHORIZE = "/oauth/authorize"
    TOKEN = "/oauth/token"  # noqa: S105 - a path
    REVOKE = "/oauth/revoke"
    INTROSPECT = "/oauth/introspect"
    API = dialect_api.PATH


def pairs(encoded: bytes) -> Pairs:
    return parse_qsl(encoded.decode("latin-1"), keep_blank_values=True)


def room_of(dialect: Dialect, method: str, path: str, query: bytes) -> tuple[Room, Endpoint | None] | None:
    """Where a request belongs; None when nothing of the dialect is there."""
    doors = {
        dialect.authorize: Room.AUTHORIZE,
        dialect.token: Room.TOKEN,
        dialect.revoke: Room.REVOKE,
        dialect.introspect: Room.INTROSPECT,
    }
    for door, room in doors.items():
        if door is not None and path == unquote(door.partition("?")[0]):
            return room, None
    for endpoint in (dialect.identity, *dialect.endpoints):
        at, _, asked = endpoint.path.partition("?")
        if (method, path) == (endpoint.method, unquote(at)) and sorted(pairs(query)) == sorted(pairs(asked.encode())):
            return Room.API, endpoint
    return None


def consent_request(dialect: Dialect, given: Pairs) -> Pairs:
    said = _client_id(dialect, given)
    if not dialect.pkce:
        said = [(name, value) for name, value in said if not name.startswith("code_challenge")]
    return _scopes(dialect, said)


def form(dialect: Dialect, given: Pairs) -> Pairs:
    """A form of an application's, at any of the endpoints that want to know the client."""
    said = _client_id(dialect, given)
    if dialect.client_auth == "basic":
        said = [(name, value) for name, value in said if name != "client_secret"]
    return said


def token_form(dialect: Dialect, given: Pairs) -> Pairs:
    said, kind = form(dialect, given), dict(given).get("grant_type")
    if kind == "client_credentials":
        return _scopes(dialect, said)
    if kind == "authorization_code":
        return said if dialect.pkce else [(name, value) for name, value in said if name != "code_verifier"]
    if kind == dialect.renewal.grant_type:
        known = {dialect.renewal.parameter: "refresh_token"}
        said = [(known.get(name, name), value) for name, value in said if name != "refresh_token" or name in known]
        return [(name, "refresh_token" if name == "grant_type" else value) for name, value in said]
    # RFC 6749's own refresh is none here, where another grant is in its place.
    return [(name, "none" if (name, value) == ("grant_type", "refresh_token") else value) for name, value in said]


def lacking(needed: dict[str, str], given: Pairs) -> str | None:
    """The first parameter that a request should have carried."""
    return next((f"{name}={value}" for name, value in needed.items() if (name, value) not in given), None)


def headers(dialect: Dialect, room: Room, given: Headers) -> list[tuple[bytes, bytes]]:
    """The request's headers, with the token or the client where the simulator looks for it, or nowhere."""
    said = MutableHeaders(raw=list(given.raw))
    if room is Room.API:
        token = given.get(dialect.token_header, "")
        del said["authorization"]
        if token.startswith(dialect.token_prefix):
            said["authorization"] = f"Bearer {token.removeprefix(dialect.token_prefix)}"
    elif dialect.client_auth == "post":
        del said["authorization"]
    return said.raw


def encoded(said: Pairs) -> bytes:
    return urlencode(said).encode()


def _client_id(dialect: Dialect, given: Pairs) -> Pairs:
    renamed = {dialect.client_id_parameter: "client_id"}
    return [(renamed.get(name, name), value) for name, value in given if name != "client_id" or name in renamed]


def _scopes(dialect: Dialect, said: Pairs) -> Pairs:
    asked = dict(said).get("scope", "").split(dialect.scope_separator)
    # What is still in one piece with a space in it was parted in another provider's way, and is no scope at all.
    scopes = " ".join(scope.replace(" ", "%20") for scope in asked if scope) or UNSCOPED
    return [*((name, value) for name, value in said if name != "scope"), ("scope", scopes)]
