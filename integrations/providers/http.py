"""The one httpx client, and the one place where a response becomes something that can be judged.

Nothing of a request or a body enters an error text or a record: only the status, the error code when it looks like
one, and what kind of trouble there was below HTTP.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from integrations.domain.answer import IN_WORDS, Reading, hear
from integrations.domain.message import Message
from integrations.domain.verdict import Heard, Trouble

TIMEOUT: Final = timedelta(seconds=8)
"""For a whole call. Below every start_to_close timeout (15 s), so that we hear of it before Temporal does."""
_BODY_LIMIT: Final = 1024 * 1024
_HOPS: Final = 3
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NEVER_CONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_KEPT: Final = 4.0
"""Seconds that an idle connection is kept. Many servers close theirs after 5: what is sent on one that is just being
closed is an answer lost."""
_UNSENDABLE: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_A_PIECE: Final = 8
"""Characters from which on a part of a secret counts as one."""
_ANY: Final = Reading()
_NO_LIMIT: Final = httpx.Limits(max_connections=None, max_keepalive_connections=100)


class Response(Message):
    heard: Heard
    body: Any = None
    """The parsed JSON, or None. May hold tokens: it stays inside the step that asked for it."""


def make_client() -> httpx.AsyncClient:
    """No transport retries: Temporal retries. No redirects by itself: `ask` follows those that carry nothing away."""
    return httpx.AsyncClient(
        # Waiting for a connection ends before the whole does: then it is known that nothing was sent.
        timeout=httpx.Timeout(TIMEOUT.total_seconds(), connect=4.0, pool=3.0),
        follow_redirects=False,
        # How many calls there are at once is decided by the slots of each provider's worker. A bound for all of them
        # together would let one provider that hangs keep the others waiting.
        transport=httpx.AsyncHTTPTransport(retries=0, limits=_NO_LIMIT),
        headers={"User-Agent": "integrations-runbook"},
        # A proxy from the environment would see every token.
        trust_env=False,
    )


def make_renewing_client() -> httpx.AsyncClient:
    """For refreshes, which go out by the hundred: the same on aiohttp's connections (docs/decisions/0009).

    For POST alone: aiohttp sends what it takes for idempotent a second time by itself.
    """

    def session() -> aiohttp.ClientSession:
        """Made with the first request: aiohttp wants a running loop. The slots of workers bound its connections."""
        connector = aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=_KEPT)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    context = httpx.create_ssl_context(trust_env=False)
    return httpx.AsyncClient(
        timeout=httpx.Timeout(TIMEOUT.total_seconds(), pool=4.0),
        follow_redirects=False,
        transport=AiohttpTransport(verify=context, client=session),
        headers={"User-Agent": "integrations-runbook"},
        trust_env=False,
    )


async def ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    reading: Reading = _ANY,
    expects_json: bool = True,
    secrets: Iterable[str] = (),
    **options: Any,
) -> Response:
    """Send one request and read at most 1 MiB of the answer. Never raises for what the network or provider does.

    A GET is led on within its own origin, at most three times; nothing follows to another host. `secrets` is what the
    request carries and no record may: an error code that repeats it is not kept.
    """
    try:
        # httpx bounds each read; an answer that drips would never end.
        async with asyncio.timeout(TIMEOUT.total_seconds()):
            request = client.build_request(method, url, **options)
            for _ in range(_HOPS + 1):
                answer, body, onward = await _send(client, request)
                if onward is None:
                    break
                request = onward
    except httpx.HTTPError as error:
        return _trouble(_what(error), kind_of(error))
    except (aiohttp.ClientError, UnicodeError) as error:
        # No HTTP, or none that the transport can tell: it was sent, and nothing that can be read came back.
        return _trouble(Trouble.LOST, type(error).__name__)
    except httpx.InvalidURL:
        return _trouble(Trouble.OURS, "InvalidURL")
    except TimeoutError:
        return _trouble(Trouble.LOST, "Timeout")
    if body is None:
        return _trouble(Trouble.LOST, "BodyTooLarge")
    heard, parsed = hear(
        answer.status_code, answer.headers, body, reading, now=datetime.now(UTC), expects_json=expects_json
    )
    return Response(heard=_without_echo(heard, secrets), body=parsed)


async def _send(
    client: httpx.AsyncClient, request: httpx.Request
) -> tuple[httpx.Response, bytes | None, httpx.Request | None]:
    """The answer, its body (None: too large), and where a GET is led within the same origin."""
    answer = await client.send(request, stream=True)
    try:
        onward = answer.next_request
        if onward is not None and request.method == "GET" and _origin(onward.url) == _origin(request.url):
            return answer, b"", onward
        body = b""
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > _BODY_LIMIT:
                return answer, None, None
        return answer, body, None
    finally:
        await answer.aclose()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _trouble(trouble: Trouble, kind: str) -> Response:
    return Response(heard=Heard(trouble=trouble, trouble_kind=kind))


def _what(error: httpx.HTTPError) -> Trouble:
    """May it have arrived? Only what ended before there was a connection was never sent."""
    if isinstance(error, _UNSENDABLE):
        return Trouble.OURS
    beneath = _beneath(error)
    # What aiohttp says counts: its transport calls every broken connection ConnectTimeout.
    never = isinstance(beneath, _NEVER_CONNECTED) if beneath else isinstance(error, _NEVER_SENT)
    return Trouble.NOT_SENT if never else Trouble.LOST


def _beneath(error: BaseException) -> aiohttp.ClientError | None:
    return next((cause for cause in causes(error) if isinstance(cause, aiohttp.ClientError)), None)


def kind_of(error: httpx.HTTPError) -> str:
    """The transport error's class, or what lies behind it when that says more."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        for cause in causes(error):
            if isinstance(cause, socket.gaierror):
                return "DnsFailure"
            if isinstance(cause, ssl.SSLError):
                return "TlsFailure"
        beneath = _beneath(error)
        if isinstance(beneath, aiohttp.ClientConnectorError):
            return httpx.ConnectError.__name__
        if beneath is not None and not isinstance(beneath, _NEVER_CONNECTED):
            # What that transport calls whatever ends a connection before an answer.
            return "Disconnected"
    return type(error).__name__


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _without_echo(heard: Heard, secrets: Iterable[str]) -> Heard:
    """A provider that names what we sent as its error must not bring it into a record."""
    error = heard.error or ""
    # What is shorter would be found in words that are none of it.
    echoed = any(
        len(min(secret, error, key=len)) >= _A_PIECE and (secret in error or error in secret) for secret in secrets
    )
    return heard.model_copy(update={"error": IN_WORDS}) if echoed else heard
