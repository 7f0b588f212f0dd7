"""Webhooks: each message is a signed POST, as Standard Webhooks 1.0 describes it (standardwebhooks.com).

Whether it was taken is said by the status alone. What comes after the status is read so far that the connection can be
used again, and is not looked at.
"""

import asyncio
import json
from collections.abc import Collection
from contextlib import aclosing
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import aiohttp
import httpx
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from integrations.domain.answer import retry_after
from integrations.domain.mail import THIS_MACHINE
from integrations.domain.notification import Answer, Outgoing
from integrations.domain.verdict import Meaning
from integrations.providers.channels.channel import TIMEOUT
from integrations.providers.channels.client import trouble_of
from integrations.providers.channels.places import InsideError, is_inside, literal
from integrations.providers.http import causes

_WRITTEN: Final = "https://host/path"
_PORTS: Final = range(1, 65536)
_READ_LIMIT: Final = 64 * 1024
_TROUBLE: Final = (httpx.HTTPError, aiohttp.ClientError, OSError, UnicodeError)
"""The transport lets aiohttp's errors for what is no HTTP through, and cannot encode some reason phrases."""
_AGAIN: Final = {
    408: (Meaning.RETRY, "it waited too long for the message"),
    425: (Meaning.RETRY, "it takes no early data"),
    429: (Meaning.THROTTLED, "it wants fewer messages"),
}
"""RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4."""
_INSIDE: Final = "leads into our own network; RUNBOOK_WEBHOOK_INTERNAL names the hosts there that webhooks may go to"


class WebhookChannel:
    name = "webhook"

    def __init__(self, transport: httpx.AsyncBaseTransport, internal: Collection[str]) -> None:
        self._transport = transport
        self._internal = internal

    def ready(self) -> str:
        return ""

    def check(self, address: str) -> str:
        url = _url(address)
        if not url.host or (url.port or 443) not in _PORTS:
            raise ValueError(f"a webhook is written {_WRITTEN}, or https://host:port/path")
        if url.userinfo or url.fragment:
            raise ValueError("a webhook has no user, password or fragment: its messages are signed")
        if url.scheme != "https" and (url.scheme != "http" or url.host not in THIS_MACHINE):
            raise ValueError(f"a webhook is written {_WRITTEN}; http goes to this machine only (127.0.0.1, localhost)")
        place = literal(url.host)
        if place is not None and is_inside(place) and url.host not in THIS_MACHINE.union(self._internal):
            raise ValueError(f"{url.host} {_INSIDE}")
        return str(url)

    def origin(self, address: str) -> str:
        url = httpx.URL(address)
        host = url.netloc.decode()
        return host if url.port else f"{host}:{80 if url.scheme == 'http' else 443}"

    def masked(self, address: str) -> str:
        url = httpx.URL(address)
        return f"{url.scheme}://{url.netloc.decode()}/…"

    async def send(self, outgoing: Outgoing) -> Answer:
        try:
            request = _request(outgoing)
        except (ValueError, EmptyWebhookSecretError):
            return _refused(
                "Secret", "its secret signs nothing: it is whsec_ and base64; `runbook contacts add` sets it"
            )
        except httpx.InvalidURL:
            return _NO_ADDRESS
        answer = None
        try:
            # As a whole: an answer that drips would never end.
            async with asyncio.timeout(TIMEOUT.total_seconds()):
                answer = await self._transport.handle_async_request(request)
                await _read_off(answer)
        except TimeoutError:
            trouble = Answer(
                meaning=Meaning.OUTAGE, kind="Timeout", why=f"no answer within {TIMEOUT.total_seconds():g} s"
            )
        except _TROUBLE as error:
            trouble = _below_http(error)
        return trouble if answer is None else _judged(answer)


def _request(outgoing: Outgoing) -> httpx.Request:
    now = datetime.now(UTC)
    body = body_of(outgoing)
    return httpx.Request(
        "POST",
        _parsed(outgoing.to.address),
        content=body,
        headers={
            "Content-Type": "application/json",
            "Idempotency-Key": outgoing.key,
            "webhook-id": outgoing.key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(outgoing.to.secret).sign(outgoing.key, now, body),
        },
    )


@lru_cache(maxsize=256)
def _parsed(address: str) -> httpx.URL:
    """Reading an address takes longer than what is made of it, and a receiver gets many messages."""
    return httpx.URL(address)


def _url(address: str) -> httpx.URL:
    # Other readers of URLs, such as the transport, take a backslash for a slash.
    if any(character in " \\" or not character.isprintable() for character in address.strip()):
        raise ValueError(f"a webhook is written {_WRITTEN}, without spaces, backslashes and control characters")
    try:
        return httpx.URL(address.strip())
    except httpx.InvalidURL:
        raise ValueError(f"a webhook is written {_WRITTEN}") from None


def body_of(outgoing: Outgoing) -> str:
    news = outgoing.news
    return json.dumps(
        {
            "type": news.name,
            "timestamp": news.occurred_at.isoformat(),
            "data": {
                "event_id": str(news.event_id),
                "definition": outgoing.definition,
                "recipient": outgoing.to.recipient,
                "owner": news.tenant,
                "provider": news.provider_id,
                "connection_id": str(news.connection_id) if news.connection_id else None,
                "subject": outgoing.rendered.subject,
                "text": outgoing.rendered.text,
            },
        }
    )


async def _read_off(answer: httpx.Response) -> None:
    read = 0
    async with aclosing(answer):
        async for chunk in answer.aiter_raw():
            read += len(chunk)
            if read > _READ_LIMIT:
                return


def _judged(answer: httpx.Response) -> Answer:
    status = answer.status_code
    if httpx.codes.is_success(status):
        return Answer(meaning=Meaning.OK)
    kind, said = f"HTTP {status}", f"the receiver answered {status}:"
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _AGAIN:
        meaning, why = _AGAIN.get(status, (Meaning.OUTAGE, "it is in trouble"))
        after = retry_after(answer.headers.get("retry-after"), datetime.now(UTC))
        return Answer(meaning=meaning, kind=kind, why=f"{said} {why}", after=after)
    if httpx.codes.is_redirect(status):
        return _refused(kind, f"{said} it is elsewhere, and no redirect is followed; give the address that it leads to")
    return _refused(kind, f"{said} it does not take this message, and sending it again changes nothing")


def _below_http(error: Exception) -> Answer:
    if any(isinstance(cause, InsideError) for cause in causes(error)):
        return _refused("InsideAddress", f"its host {_INSIDE}")
    if isinstance(error, httpx.UnsupportedProtocol):
        return _NO_ADDRESS
    kind = trouble_of(error)
    return Answer(meaning=Meaning.OUTAGE, kind=kind, why=f"no answer ({kind})")


def _refused(kind: str, why: str) -> Answer:
    return Answer(meaning=Meaning.OWNER_MUST_ACT, kind=kind, why=why)


_NO_ADDRESS: Final = _refused("Address", f"its address is none: it is written {_WRITTEN}")
