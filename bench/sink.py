"""Where webhooks arrive: a process of its own, which answers by the Idempotency-Key and counts what came.

`python -m bench.sink PORT`. POST to /healthy/NAME is always taken. Of the keys that are posted to /flaky/NAME one in a
hundred is always refused and ten are refused once. GET tells what came to an address.
"""

import asyncio
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

HOST: Final = "127.0.0.1"
KEYS: Final = 100
"""A key's last eight digits, modulo this, are its fate."""
ALWAYS: Final = range(1)
ONCE: Final = range(1, 11)
_DIGITS: Final = 8


def fate(key: str) -> int:
    """Of a key as `idempotency_key` makes it: it ends with hexadecimal digits."""
    return int(key[-_DIGITS:], 16) % KEYS


@dataclass
class Box:
    """What came to one address."""

    arrivals: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    size: int = 0
    """Bytes of all bodies."""

    def told(self) -> dict[str, int]:
        return {
            "arrivals": self.arrivals.total(),
            "keys": len(self.arrivals),
            "accepted": len(self.accepted),
            "accepted_twice": sum(times > 1 for times in self.accepted.values()),
            "size": self.size,
        }


class Sink:
    def __init__(self) -> None:
        self._boxes: defaultdict[str, Box] = defaultdict(Box)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        box = self._boxes[request.path]
        if request.method == "GET":
            return web.json_response(box.told())
        box.size += len(await request.read())
        key = request.headers["Idempotency-Key"]
        box.arrivals[key] += 1
        if request.path.startswith("/flaky/") and _refused(key, box.arrivals[key]):
            return web.Response(status=503)
        box.accepted[key] += 1
        return web.Response(status=202)


def _refused(key: str, times: int) -> bool:
    its = fate(key)
    return its in ALWAYS or (its in ONCE and times == 1)


async def _serve(port: int) -> None:
    # Without an application: routing would cost more than the work, on both sides of the ratio.
    runner = web.ServerRunner(web.Server(Sink().answer))
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
