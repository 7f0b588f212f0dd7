"""Where webhooks come in: verified, written down once, answered. What they ask for is done later, by a dispatcher.

A plain ASGI route in front of the app: what every page is wrapped in would take longer than all of this.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Receive, Scope, Send

from integrations.db import webhook_ingress
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_channels import is_channel
from integrations.db.webhook_ingress import Deliveries, Delivery
from integrations.db.webhook_secrets import OpenChannel
from integrations.domain.errors import NotReadyError
from integrations.domain.webhook import LIFECYCLE_WINDOW, Reaction, Reason, digest_window
from integrations.providers.catalog import Catalog
from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived, Greeting, RefusedError
from integrations.providers.webhooks.greeting import greet
from integrations.providers.webhooks.reading import read
from integrations.providers.webhooks.signature import check_signed, verify
from web.headers import HEADERS
from web.metrics import WEBHOOKS, Outcome
from web.open_channels import FRESH, USUAL, OpenChannels
from web.refusals import Refusals
from web.request_body import Bodies, FullError, Headers

log = structlog.get_logger("web")
PREFIX: Final = "/webhooks/"
UNKNOWN: Final = "(unknown)"
_AT_ONCE: Final = timedelta(0)
_PATIENCE: Final = 2.5
"""Seconds for all that an answer needs but the body. Slack hangs up after three, Shopify after five."""
_OK, _UNAUTHORIZED, _UNAVAILABLE = 200, 401, 503
_STATUSES: Final = {Reason.UNKNOWN: 404, Reason.METHOD: 405, Reason.LARGE: 413, Reason.CUT: 400}
_TROUBLE: Final = (OSError, PostgresError, InterfaceError, SQLAlchemyError, NotReadyError, FullError)
_SECRET: Final = frozenset({b"authorization", b"cookie"})
_HEADERS: Final = tuple((name.lower().encode(), value.encode()) for name, value in HEADERS.items())
_LEAVE: Final = ((b"connection", b"close"),)
"""Whatever else comes of the body is not waited for."""
_MORE: Final[dict[object, Headers]] = {
    Reason.LARGE: _LEAVE,
    Reason.CUT: _LEAVE,
    # Before its body was read.
    Reason.MISSING: _LEAVE,
    Reason.DOUBLED: _LEAVE,
    Reason.MALFORMED: _LEAVE,
    _UNAVAILABLE: ((b"retry-after", b"30"), *_LEAVE),
}


class Ingress:
    """Made by `opened`, used by `InFront`."""

    def __init__(
        self, catalog: Catalog, channels: OpenChannels, deliveries: Deliveries, refusals: Refusals, base_url: str
    ) -> None:
        self._webhooks = {each.id: each.webhook for each in catalog if each.webhook is not None}
        self._windows = {each.id: digest_window(each.redelivery_horizon) for each in catalog}
        self._channels = channels
        self._deliveries = deliveries
        self._bodies = Bodies()
        self._refusals = refusals
        self._base_url = base_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        provider_id, _, channel = scope["path"].removeprefix(PREFIX).partition("/")
        webhook = self._webhooks.get(provider_id)
        # Nobody else's words are counted, logged or kept.
        provider, reason = provider_id if webhook else UNKNOWN, None
        try:
            status, outcome, answer = await self._taken(scope, receive, provider_id, channel, webhook)
        except RefusedError as refused:
            reason = refused.reason
            self._refusals.add(provider, UNKNOWN if reason is Reason.UNKNOWN else channel, reason)
            status, outcome, answer = _STATUSES.get(reason, _UNAUTHORIZED), Outcome.REJECTED, None
        except _TROUBLE as error:
            log.warning("webhook.not_written", provider=provider, why=type(error).__name__)
            status, outcome, answer = _UNAVAILABLE, Outcome.UNAVAILABLE, None
        WEBHOOKS.labels(provider, outcome).inc()
        if answer is None:
            # Some providers count an answer with a body as a failure.
            body = b"" if webhook is not None and webhook.silent else json.dumps({"status": outcome}).encode()
            answer = Greeting(status, body, "application/json")
        await _send(send, answer, _allowed(webhook) if reason is Reason.METHOD else _MORE.get(reason or status, ()))

    async def _taken(
        self, scope: Scope, receive: Receive, provider_id: str, channel: str, webhook: Webhook | None
    ) -> tuple[int, Outcome, Greeting | None]:
        """Raises RefusedError, and whatever is trouble of our own."""
        if webhook is None or not is_channel(channel):
            raise RefusedError(Reason.UNKNOWN)
        clock = asyncio.get_running_loop().time
        ends = clock() + _PATIENCE
        async with asyncio.timeout_at(ends) as patience:
            known = await self._channel(provider_id, channel)
            headers = tuple(scope["headers"])
            arrived = Arrived(scope["method"], self._url(scope), headers, b"")
            if arrived.method not in _methods(webhook):
                raise RefusedError(Reason.METHOD)
            check_signed(webhook, arrived)
            left = ends - clock()
            # A body has patience of its own.
            patience.reschedule(None)
            async with self._bodies.of(headers, receive, webhook.largest) as body:
                patience.reschedule(clock() + left)
                return await self._answered(provider_id, channel, webhook, known, replace(arrived, body=body))

    async def _answered(
        self, provider_id: str, channel: str, webhook: Webhook, known: OpenChannel, arrived: Arrived
    ) -> tuple[int, Outcome, Greeting | None]:
        now = datetime.now(UTC)
        try:
            proven = _proven(webhook, arrived, known, now)
        except RefusedError:
            # Its secret may have been made a moment ago.
            newer = await self._channel(provider_id, channel, at_most=FRESH)
            if newer == known:
                raise
            known, proven = newer, _proven(webhook, arrived, newer, now)
        if isinstance(proven, Greeting):
            return proven.status, Outcome.GREETED, proven
        told = read(webhook, arrived, proven)
        window = webhook.coalesce
        waits = bool(window and told.resource)
        delivery = Delivery(
            provider_id=provider_id,
            channel=channel,
            delivery_id=told.delivery_id,
            identity=told.identity,
            event=told.event,
            resource=told.resource if waits else "",
            account=told.account,
            headers=_as_json(webhook, arrived.headers),
            body=arrived.body,
            sent_at=told.sent_at,
            wait=window if window and waits else _AT_ONCE,
            reaction=told.reaction,
            notices=told.notices,
            occurred_at=told.occurred_at,
            window=self._windows[provider_id] if told.reaction is Reaction.EVENT else LIFECYCLE_WINDOW,
        )
        return _OK, Outcome.ACCEPTED if await self._deliveries.record(delivery) else Outcome.DUPLICATE, None

    async def _channel(self, provider_id: str, channel: str, *, at_most: float = USUAL) -> OpenChannel:
        found = await self._channels.get(provider_id, channel, at_most=at_most)
        found = found or await self._channels.get(provider_id, channel, at_most=FRESH)
        if found is None:
            raise RefusedError(Reason.UNKNOWN)
        return found

    def _url(self, scope: Scope) -> str:
        """As the provider has it, whatever a proxy in front of us calls this host."""
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        return f"{self._base_url}{path}?{query}" if query else f"{self._base_url}{path}"


class InFront:
    """Middleware that takes the requests of providers, and leaves all others to the app."""

    def __init__(self, app: ASGIApp, ingress: Ingress) -> None:
        self._app = app
        self._ingress = ingress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mine = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (self._ingress if mine else self._app)(scope, receive, send)


@asynccontextmanager
async def opened(url: str, sessions: Sessions, vault: Vault, catalog: Catalog, base_url: str) -> AsyncIterator[Ingress]:
    """The ingress over a database, whose `url` starts with postgresql+asyncpg://. It need not answer yet."""
    refusals = Refusals(sessions)
    async with webhook_ingress.opened(url) as deliveries:
        try:
            yield Ingress(catalog, OpenChannels(sessions, vault), deliveries, refusals, base_url)
        finally:
            await refusals.close()


def _methods(webhook: Webhook) -> tuple[str, ...]:
    """GET is for Meta's handshake."""
    return ("POST", "GET") if webhook.greeting == "hub-challenge" else ("POST",)


def _allowed(webhook: Webhook | None) -> Headers:
    return ((b"allow", ", ".join(_methods(webhook)).encode()),) if webhook else ()


def _proven(webhook: Webhook, arrived: Arrived, channel: OpenChannel, now: datetime) -> Greeting | datetime | None:
    """A handshake's answer, or when a delivery was signed, where its scheme says so. Raises RefusedError."""
    return greet(webhook, arrived, channel.secrets, now) or verify(webhook, arrived, channel.secrets, now)


def _as_json(webhook: Webhook, headers: Headers) -> str:
    """What is kept of them: no secrets, and nothing that Postgres' JSON does not take."""
    kept: dict[str, str] = {}
    for name, value in headers:
        if name in _SECRET or name.startswith(b"proxy-") or b"\0" in value:
            continue
        key, text = name.decode("latin-1"), value.decode("latin-1")
        # RFC 9110, section 5.3.
        kept[key] = f"{kept[key]}, {text}" if key in kept else text
    if webhook.scheme == "google-channel-token" and webhook.header:
        kept.pop(webhook.header.lower(), None)
    return json.dumps(kept)


async def _send(send: Send, answer: Greeting, more: Headers) -> None:
    headers = [
        *_HEADERS,
        *more,
        (b"content-type", answer.media_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
