"""uvicorn, with the two things a provider needs that is broken on purpose."""

import asyncio
import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from simulator.provider import Provider

GRACE_ON_STOP_S = 3
"""How long requests in progress may take when the process is asked to stop."""


class Protocol(H11Protocol):
    """Hands its transport to the application, so that a fault can cut the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Server(uvicorn.Server):
    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._provider: Provider = app.state.provider
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=Protocol,
                ws="none",
                lifespan="on",
                access_log=False,
                date_header=False,  # simulator.date_header sends its own
                timeout_graceful_shutdown=GRACE_ON_STOP_S,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of what hangs first: uvicorn waits for requests, and those would never end."""
        self._provider.faults.lift_all()
        await super().shutdown(sockets)
