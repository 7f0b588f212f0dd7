"""What each kind of fault does to a request. A new kind is one function, one line in KINDS and one button."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.client import responses as reasons

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import Message

from simulator.clock import http_date
from simulator.fault_call import Call

PROXY_PAGE = """\
<html>\r
<head><title>{title}</title></head>\r
<body>\r
<center><h1>{title}</h1></center>\r
<hr><center>nginx</center>\r
</body>\r
</html>\r
"""


@dataclass(frozen=True, slots=True)
class Kind:
    do: Callable[[Call], Awaitable[None]]
    usual: Mapping[str, object] = field(default_factory=dict)
    """What an order of this kind means where it says nothing itself."""


async def answer_status(call: Call) -> None:
    """Answer at once, and handle nothing."""
    order = call.order
    body = {"error": "temporarily_unavailable"} if order.body is None else order.body
    respond = PlainTextResponse if isinstance(body, str) else JSONResponse
    response = respond(body, order.status, _retry_after(call))
    await response(call.scope, call.receive, call.send)


def _retry_after(call: Call) -> dict[str, str]:
    wait = call.order.retry_after
    if wait is None:
        return {}
    if call.order.retry_after_as == "date":
        return {"Retry-After": http_date(call.now + float(wait))}
    return {"Retry-After": str(wait)}


async def answer_page(call: Call) -> None:
    """Answer as a proxy does whose provider is gone: with a page for people, and nothing handled."""
    status = call.order.status
    page = PROXY_PAGE.format(title=f"{status} {reasons.get(status, '')}".strip())
    await HTMLResponse(page, status)(call.scope, call.receive, call.send)


async def answer_nothing(call: Call) -> None:
    """Answer with a status and no body at all, and handle nothing."""
    await Response(status_code=call.order.status)(call.scope, call.receive, call.send)


async def hang(call: Call) -> None:
    """Hold the request and handle nothing, until its time is up, the fault is lifted or the client leaves."""
    # Written down first: whoever looks while it hangs shall see it.
    call.log.write(call.entry, None)
    with call.held():
        await call.gone()


async def drip(call: Call) -> None:
    """Handle the request, then answer byte by byte: no single read is late, so only a deadline for all of it helps."""
    with call.held():
        start, body = await call.handled()
        await call.send(start)
        leaving = asyncio.create_task(call.gone())
        try:
            for place in range(len(body)):
                await call.send(_part(body[place : place + 1], more=True))
                await asyncio.wait({leaving}, timeout=1 / call.order.bytes_per_s)
                if leaving.done():
                    return  # or the rest of a long answer would rush into nowhere
            await call.send(_part(b"", more=False))
        finally:
            leaving.cancel()


async def reset(call: Call) -> None:
    """Handle nothing and tear the connection down with a RST."""
    call.reset()
    await call.gone()


async def drop(call: Call) -> None:
    """Handle the request fully, then lose the answer: the nastiest moment for a rotated refresh token."""
    await call.handled()
    call.hang_up()
    await call.gone()


async def truncate(call: Call) -> None:
    """Handle the request fully, then send half of the answer's body."""
    start, body = await call.handled()
    half, whole_message = body[: len(body) // 2], call.order.cut == "body"
    if whole_message:
        MutableHeaders(raw=start["headers"])["content-length"] = str(len(half))
    await call.send(start)
    await call.send(_part(half, more=not whole_message))
    if not whole_message:
        # Not aborted: the half that was written has to arrive.
        call.transport.close()
        await call.gone()


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


KINDS: dict[str, Kind] = {
    "status": Kind(answer_status, {"status": 503}),
    "throttle": Kind(answer_status, {"status": 429, "retry_after": 30, "body": {"error": "too_many_requests"}}),
    "html": Kind(answer_page, {"status": 502}),
    "empty": Kind(answer_nothing, {"status": 200}),
    "hang": Kind(hang),
    "drip": Kind(drip),
    "reset": Kind(reset),
    "drop": Kind(drop),
    "truncated": Kind(truncate),
}
