"""Requests as bytes over a socket: what no client library would send."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """Status 0: the connection was closed without a word."""

    status: int
    head: bytes
    body: bytes


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    try:
        yield reader, writer
    finally:
        writer.close()


def wire(
    path: bytes, body: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = (), *, method: bytes = b"POST"
) -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: a", b"Connection: close"]
    lines += [name + b": " + value for name, value in headers]
    if not any(name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def sent(url: str, request: bytes, *, hang_up: bool = False) -> Answer:
    """What comes back. `hang_up`: nothing more is said after the request."""
    async with asyncio.timeout(20), connected(url) as (reader, writer):
        try:
            writer.write(request)
            await writer.drain()
            if hang_up:
                writer.write_eof()
        except ConnectionError:
            pass
        return await read(reader)


async def read(reader: asyncio.StreamReader) -> Answer:
    """The rest of a connection."""
    said = b""
    try:
        while chunk := await reader.read(65536):
            said += chunk
    except ConnectionError:
        pass
    head, _, body = said.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ", 2)[1]) if head else 0, head, body)
