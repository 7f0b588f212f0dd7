"""The address to which other systems post: it stands for the chat, the pager or the program that takes their news."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator import bodies
from simulator.inbox import Arrival, Inbox
from simulator.provider import provider_of

PREFIX = "/inbox"


class InboxMiddleware:
    """Stands before the faults: what they refuse or swallow has arrived, too."""

    def __init__(self, app: ASGIApp, inbox: Inbox) -> None:
        self._app = app
        self._inbox = inbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = _name(scope)
        if name is None:
            await self._app(scope, receive, send)
            return
        body = await bodies.read(receive)
        arrival = scope["simulator.arrival"] = self._inbox.arrives(name, Headers(scope=scope), body)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                arrival.status = message["status"]
            await send(message)

        await self._app(scope, bodies.Replay(body, receive), send_noted)


def _name(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    room, _, name = scope["path"].rpartition("/")
    return name or None if room == PREFIX else None


async def accept(request: Request) -> Response:
    arrival = request.scope["simulator.arrival"]
    assert isinstance(arrival, Arrival)
    provider_of(request).inbox.accept(arrival)
    return Response(status_code=HTTPStatus.ACCEPTED)


ROUTES = [Route(f"{PREFIX}/{{name}}", accept, methods=["POST"])]
