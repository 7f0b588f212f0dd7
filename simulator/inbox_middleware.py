"""The address to which other systems post: it stands for the chat, the pager or the program that takes their news."""

from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator import bodies
from simulator.fault_middleware import FaultMiddleware
from simulator.provider import Provider

PREFIX = "/inbox"


class InboxMiddleware:
    """Answers by itself, since benches post here and routing costs more than the work.

    Stands before faults of its own: what they refuse or swallow has arrived, too.
    """

    def __init__(self, app: ASGIApp, provider: Provider) -> None:
        self._app = app
        self._inbox = provider.inbox
        self._breakable = FaultMiddleware(self._accept, provider)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = _name(scope)
        if name is None:
            await self._app(scope, receive, send)
            return
        body = await bodies.read(receive)
        arrival = scope["simulator.arrival"] = self._inbox.arrives(name, dict(scope["headers"]), body)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                arrival.status = message["status"]
            await send(message)

        await self._breakable(scope, bodies.Replay(body, receive), send_noted)

    async def _accept(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._inbox.accept(scope["simulator.arrival"])
        await Response(status_code=HTTPStatus.ACCEPTED)(scope, receive, send)


def _name(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    room, _, name = scope["path"].rpartition("/")
    return name or None if room == PREFIX else None
