"""Tells the time on every answer (RFC 9110 section 6.6.1), by the provider's own clock; uvicorn's is always right."""

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.clock import Clock, http_date


class DateMiddleware:
    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"])["date"] = http_date(self._clock.at(time.time()))
            await send(message)

        await self._app(scope, receive, send_dated)
