"""Stands before the faults and the provider, and translates: both go on in the simulator's own words."""

from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator import bodies, dialect_answers, dialect_requests
from simulator.dialect import Dialect
from simulator.dialect_requests import Room
from simulator.pages import error_page
from simulator.provider import Provider


class DialectMiddleware:
    def __init__(self, app: ASGIApp, provider: Provider) -> None:
        self._app = app
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = self._provider.dialects.current
        if scope["type"] != "http" or dialect is None:
            await self._app(scope, receive, send)
            return
        now = self._now(scope)
        found = dialect_requests.room_of(dialect, scope["method"], scope["path"], scope["query_string"])
        if found is None:
            # Between login and consent people are on the simulator's own page, and that leads back.
            leads_back = scope["path"] == Room.AUTHORIZE
            said = _Translated(dialect, Room.AUTHORIZE, send, now) if leads_back else send
            await self._app(scope, receive, said)
            return
        room, endpoint = found
        inside = {**scope, "path": str(room), "simulator.endpoint": endpoint}
        inside["headers"] = dialect_requests.headers(dialect, room, Headers(scope=scope))
        app, given = self._app, receive
        if room is Room.AUTHORIZE:
            app = self._ask(dialect, inside)
        elif room is not Room.API:
            app, given = await self._form(dialect, room, inside, receive)
        await app(inside, given, _Translated(dialect, room, send, now))

    def _now(self, scope: Scope) -> float:
        """What the provider's own clock shows; its own pages are not logged."""
        entry = scope.get("simulator.entry")
        return self._provider.clock.at(entry.at) if entry else 0

    def _ask(self, dialect: Dialect, scope: Scope) -> ASGIApp:
        pairs = dialect_requests.pairs(scope["query_string"])
        if lacking := dialect_requests.lacking(dialect.authorize_parameters, pairs):
            return error_page(HTTPStatus.BAD_REQUEST, "This link cannot be used", f"invalid_request: no {lacking}")
        scope["query_string"] = dialect_requests.encoded(dialect_requests.consent_request(dialect, pairs))
        return self._app

    async def _form(self, dialect: Dialect, room: Room, scope: Scope, receive: Receive) -> tuple[ASGIApp, Receive]:
        pairs = dialect_requests.pairs(await bodies.read(receive))
        is_exchange = room is Room.TOKEN and ("grant_type", "authorization_code") in pairs
        if is_exchange and (lacking := dialect_requests.lacking(dialect.exchange_parameters, pairs)):
            return _refusal(lacking), receive
        said = (dialect_requests.token_form if room is Room.TOKEN else dialect_requests.form)(dialect, pairs)
        if dialect.renewal.sends == "access_token" and ("grant_type", "refresh_token") in said:
            said = [(name, self._renewed(name, value, self._now(scope))) for name, value in said]
        body = dialect_requests.encoded(said)
        MutableHeaders(raw=scope["headers"])["content-length"] = str(len(body))
        return self._app, bodies.Replay(body, receive)

    def _renewed(self, name: str, value: str, now: float) -> str:
        """The refresh token in an access token's place: nobody outside ever sees it."""
        return self._provider.tokens.renewing(value, now) or value if name == "refresh_token" else value


def _refusal(lacking: str) -> Response:
    told = {"error": "invalid_request", "error_description": f"no {lacking}"}
    return JSONResponse(told, HTTPStatus.BAD_REQUEST)


class _Translated:
    """Sends answers in the dialect. Pieces of one are a fault's: none of them is JSON, and they stay as they are."""

    def __init__(self, dialect: Dialect, room: Room, send: Send, now: float) -> None:
        self._dialect = dialect
        self._room = room
        self._send = send
        self._now = now
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if (start := self._start) is not None:
            self._start, message = None, self._translate(start, message)
            await self._send(start)
        await self._send(message)

    def _translate(self, start: Message, message: Message) -> Message:
        headers, body = MutableHeaders(raw=start["headers"]), message.get("body", b"")
        start["status"], body = dialect_answers.answer(
            self._dialect, self._room, start["status"], headers, body, self._now
        )
        return {**message, "body": body}
