"""One request in the hands of a fault, and what can be done with it."""

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.connections import held, reset
from simulator.faults import Fault
from simulator.log import Entry, RequestLog

if TYPE_CHECKING:
    from simulator.fault_order import FaultOrder  # names the kinds it accepts, and those import this file


@dataclass(frozen=True, slots=True)
class Call:
    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    entry: Entry
    log: RequestLog
    fault: "Fault[FaultOrder]"
    now: float
    """What the provider's own clock shows."""

    @property
    def order(self) -> "FaultOrder":
        return self.fault.order

    @property
    def transport(self) -> asyncio.Transport:
        """The connection itself; simulator.server hands it in."""
        transport = self.scope["state"].get("transport")
        if transport is None:
            raise RuntimeError("this fault needs a real socket: serve the app with simulator.server")
        assert isinstance(transport, asyncio.Transport)
        return transport

    def hang_up(self) -> None:
        """Cut the connection without a word."""
        self.transport.abort()

    def reset(self) -> None:
        reset(self.transport)

    async def gone(self) -> None:
        """Wait until the connection is; returning earlier would make uvicorn answer for us."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def handled(self) -> tuple[Message, bytes]:
        """Let the provider do all of its work, and keep its answer back: the start with the headers, and the body."""
        kept: list[Message] = []

        async def keep(message: Message) -> None:
            kept.append(message)

        await self.app(self.scope, self.receive, keep)
        start, *parts = kept
        return start, b"".join(part.get("body", b"") for part in parts)

    def held(self) -> AbstractContextManager[None]:
        return held(self.fault, self.transport)
