"""A receiver of webhooks on a real socket, that fails as it is told and remembers each arrival."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answers = Callable[[str, int], int]
"""The status for a key that arrives for the nth time, from 1."""


@dataclass
class Sink:
    answers: Answers = lambda _key, _nth: 202
    retry_after: int | None = None
    seconds: float = 0
    """How long it thinks about each message, which it has by then."""
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    arrivals: list[tuple[str, int]] = field(default_factory=list)
    """Each with the status that it got."""
    by_key: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def of(self, key: str) -> list[int]:
        """The answers that one key got, in order."""
        return self.by_key[key]

    @property
    def accepted(self) -> list[str]:
        return [key for key, status in self.arrivals if status == 202]

    @property
    def after_success(self) -> list[str]:
        """Keys that came again after they had been accepted."""
        return [key for key in set(self.accepted) if (got := self.of(key)) and got.index(202) < len(got) - 1]

    def forget(self) -> None:
        self.arrivals.clear()
        self.by_key.clear()

    async def receive(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        key = request.headers["Idempotency-Key"]
        status = self.answers(key, len(self.of(key)) + 1)
        self.arrivals.append((key, status))
        self.by_key[key].append(status)
        await asyncio.sleep(self.seconds)
        return web.Response(status=status, headers={"Retry-After": str(self.retry_after)} if self.retry_after else {})


@asynccontextmanager
async def receiving(answers: Answers | None = None) -> AsyncIterator[Sink]:
    sink = Sink(answers) if answers else Sink()
    app = web.Application()
    app.router.add_post("/{name}", sink.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert server is not None
    host, port = server.sockets[0].getsockname()
    sink.url = f"http://{host}:{port}/hook"
    yield sink
    await runner.cleanup()
