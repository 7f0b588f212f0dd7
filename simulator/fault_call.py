"""One request in the hands of a fault, and what can be done with it."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.log import Entry, RequestLog

if TYPE_CHECKING:
    from simulator.fault_order import FaultOrder  # names the kinds it accepts, and those import this file
    from simulator.faults import Fault

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time at all."""


@dataclass(frozen=True, slots=True)
class Call:
    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    entry: Entry
    log: RequestLog
    fault: "Fault"
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
        """Cut it with a RST, as a crashed host or an impatient firewall does."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.transport.abort()

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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Whatever takes long in here ends when its time is up or the fault is lifted: the connection is cut then."""
        timer = asyncio.get_running_loop().call_later(self.order.seconds_hold, self.hang_up)
        self.fault.held.add(self.hang_up)
        try:
            yield
        finally:
            self.fault.held.discard(self.hang_up)
            timer.cancel()
