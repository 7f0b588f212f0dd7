"""uvicorn, with what a provider needs that is broken on purpose, and a mail server beside it."""

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from simulator.provider import Provider

GRACE_ON_STOP_S = 3
"""How long requests in progress may take when the process is asked to stop."""

logger = logging.getLogger("uvicorn.error")
"""What uvicorn itself speaks with, of good news too."""


class Protocol(H11Protocol):
    """Hands its transport to the application, so that a fault can cut the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Server(uvicorn.Server):
    def __init__(self, app: FastAPI, host: str, port: int, mail_port: int | None = None) -> None:
        self._provider: Provider = app.state.provider
        self._mail_port = mail_port
        self._stop_mail: Callable[[], None] = lambda: None
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take mail first: whoever is answered on HTTP finds both."""
        if self._mail_port is not None:
            await self._take_mail(self._mail_port)
        if not self.should_exit:
            await super().startup(sockets)

    async def _take_mail(self, port: int) -> None:
        try:
            from simulator.mail_server import MailServer
        except ModuleNotFoundError as missing:
            logger.warning("No mail server: %s is not installed; the extra `embedded` brings it", missing.name)
            return
        mail = MailServer(self._provider.mailbox, self._provider.faults)
        try:
            await mail.open(self.config.host, port)
        except OSError as error:
            logger.error("The mail server cannot listen on port %d: %s", port, error.strerror)  # noqa: TRY400 no bug
            self.should_exit = True
            return
        self._stop_mail = mail.close
        logger.info("Mail server running on %s", self._provider.mailbox.address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of what hangs first: uvicorn waits for requests, and those would never end."""
        self._provider.faults.lift_all()
        self._stop_mail()
        await super().shutdown(sockets)
