"""Stands before the provider and gives each request to the fault that wants it."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from simulator import bodies
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
        candidates = self._provider.fault_choice.candidates(scope["path"], scope["method"])
        if not candidates:
            await self._app(scope, receive, send)
            return
        body = await bodies.read(receive)
        identity = self._provider.identifier.identify(scope, body)
        fault = self._provider.fault_choice.take(candidates, identity, Headers(scope=scope).get("idempotency-key"))
        replay = bodies.Replay(body, receive)
        if fault is None:
            await self._app(scope, replay, send)
            return
        entry = scope["simulator.entry"]
        entry.belongs_to(identity.account_id, identity.grant_id)
        entry.detail.update(identity.detail, fault=fault.order.kind)
        now = self._provider.clock.at(entry.at)
        await KINDS[fault.order.kind].do(Call(self._app, scope, replay, send, entry, self._provider.log, fault, now))
