"""Stands before the provider and gives each request to the fault that wants it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.fault_call import Call
from simulator.fault_kinds import KINDS
from simulator.log import is_own
from simulator.provider import Provider


class FaultMiddleware:
    def __init__(self, app: ASGIApp, provider: Provider) -> None:
        self._app = app
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_own(scope["path"]):
            await self._app(scope, receive, send)
            return
        candidates = self._provider.faults.candidates(scope["path"], scope["method"])
        if not candidates:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        identity = self._provider.identifier.identify(scope, body)
        fault = self._provider.faults.take(candidates, identity)
        replay = _Replay(body, receive)
        if fault is None:
            await self._app(scope, replay, send)
            return
        entry = scope["simulator.entry"]
        entry.belongs_to(identity.account_id, identity.grant_id)
        entry.detail.update(identity.detail, fault=fault.order.kind)
        now = self._provider.clock.at(entry.at)
        await KINDS[fault.order.kind].do(Call(self._app, scope, replay, send, entry, self._provider.log, fault, now))


async def _read(receive: Receive) -> bytes:
    """Read the whole body: whose request it is may stand nowhere else."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


class _Replay:
    """Gives the body once more to whoever handles the request after all."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
