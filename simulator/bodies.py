"""Request bodies for those who stand before the provider: read whole, and given on to whoever handles the request."""

from starlette.types import Message, Receive


async def read(receive: Receive) -> bytes:
    """Read the whole body: whose request it is, and in which words, may stand nowhere else."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


class Replay:
    """Gives a body once more to whoever handles the request after all."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
