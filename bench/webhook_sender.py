"""Several providers at once: `python -m bench.webhook_sender PORT SOCKETS COUNT SHARE FIRST`, one process of them.

Deliveries as GitHub signs them, made before the clock starts; each socket sends one, reads its answer, sends the next.
SHARE of a hundred are duplicates of a few ids. Prints one JSON document: seconds, spans, and what was answered.
"""

import asyncio
import hmac
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from bench.bare_webhook import HOST, SECRET

_HOT: Final = 8
"""Ids of the duplicates."""
_BODY: Final = json.dumps(
    {
        "ref": "refs/heads/main",
        "repository": {"id": 1296269, "full_name": "octocat/hello-world", "private": False},
        "sender": {"login": "octocat", "id": 1, "type": "User"},
        "commits": [{"id": "f" * 40, "message": "Update README", "distinct": True}] * 4,
    }
)
_HEAD: Final = (
    "POST /webhooks/github/bench HTTP/1.1\r\nHost: {host}\r\nUser-Agent: GitHub-Hookshot/0\r\nAccept: */*\r\n"
    "Content-Type: application/json\r\nX-GitHub-Delivery: {id}\r\nX-GitHub-Event: push\r\n"
    "X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {length}\r\n\r\n"
)


def requests(count: int, share: int, first: int) -> list[bytes]:
    """As they go over the wire."""
    chance = random.Random(first)  # noqa: S311 - the same each time
    made = []
    for number in range(first, first + count):
        delivery_id = f"hot-{number % _HOT}" if chance.randrange(100) < share else f"delivery-{number:012}"
        body = _BODY.encode()
        signature = hmac.digest(SECRET, body, "sha256").hex()
        head = _HEAD.format(host=HOST, id=delivery_id, signature=signature, length=len(body))
        made.append(head.encode() + body)
    return made


async def _send(port: int, wire: Iterator[bytes], spans: list[float], answers: Counter[str]) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    for request in wire:
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = await reader.readexactly(length)
        spans.append(time.perf_counter() - start)
        answers[json.loads(answer)["status"]] += 1
    writer.close()


async def send(port: int, sockets: int, wire: list[bytes]) -> dict[str, Any]:
    spans, answers, rest = list[float](), Counter[str](), iter(wire)
    start = time.perf_counter()
    await asyncio.gather(*(_send(port, rest, spans, answers) for _ in range(sockets)))
    return {"seconds": time.perf_counter() - start, "spans": spans, "answers": answers}


def main() -> None:
    port, sockets, count, share, first = map(int, sys.argv[1:])
    wire = requests(count, share, first)
    # Whoever started several of them starts their clocks together.
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    json.dump(asyncio.run(send(port, sockets, wire)), sys.stdout)


if __name__ == "__main__":
    main()
