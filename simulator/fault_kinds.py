"""What each kind of fault does to a request. A new kind is one function and one line in KINDS."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.log import Entry, RequestLog

if TYPE_CHECKING:
    from simulator.faults import Fault  # faults.py names the kinds it accepts, so it imports this file


@dataclass(frozen=True, slots=True)
class Call:
    """One request that a fault got hold of."""

    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    entry: Entry
    log: RequestLog

    def hang_up(self) -> None:
        """Cut the connection without a word; simulator.server hands its transport in."""
        transport = self.scope["state"].get("transport")
        if transport is None:
            raise RuntimeError("drop and hang need a real socket: serve the app with simulator.server")
        transport.abort()

    async def gone(self) -> None:
        """Wait until the connection is; returning earlier would make uvicorn answer for us."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


Kind = Callable[[Call, "Fault"], Awaitable[None]]


async def answer_status(call: Call, fault: "Fault") -> None:
    """Answer at once, and handle nothing."""
    order = fault.order
    headers = {} if order.retry_after is None else {"Retry-After": str(order.retry_after)}
    body = {"error": "temporarily_unavailable"} if order.body is None else order.body
    respond = PlainTextResponse if isinstance(body, str) else JSONResponse
    response = respond(body, order.status, headers)
    await response(call.scope, call.receive, call.send)


async def hang(call: Call, fault: "Fault") -> None:
    """Hold the request and handle nothing, until its time is up, the fault is lifted or the client leaves."""
    # Written down first: whoever looks while it hangs shall see it.
    call.log.write(call.entry, None)
    timer = asyncio.get_running_loop().call_later(fault.order.seconds_hold, call.hang_up)
    fault.held.add(call.hang_up)
    try:
        await call.gone()
    finally:
        fault.held.discard(call.hang_up)
        timer.cancel()


async def drop(call: Call, _fault: "Fault") -> None:
    """Handle the request fully, then lose the answer: the nastiest moment for a rotated refresh token."""

    async def lose(_message: Message) -> None:
        """Send nothing."""

    await call.app(call.scope, call.receive, lose)
    call.hang_up()
    await call.gone()


KINDS: dict[str, Kind] = {
    "status": answer_status,
    "hang": hang,
    "drop": drop,
}
