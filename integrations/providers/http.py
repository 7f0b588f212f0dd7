"""The one httpx client, and the one place where a response becomes something that can be judged.

Nothing of a request or a body enters an error text or a record: only the status, the error code when it looks like
one, and the class of a transport error.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from integrations.domain.message import Message
from integrations.domain.verdict import Heard, Trouble, error_code, retry_after

TIMEOUT: Final = timedelta(seconds=8)
"""For a whole call. Below every start_to_close timeout (15 s), so that we hear of it before Temporal does."""
_BODY_LIMIT: Final = 1024 * 1024
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Response(Message):
    heard: Heard
    body: Any = None
    """The parsed JSON, or None. May hold tokens: it stays inside the step that asked for it."""


def make_client() -> httpx.AsyncClient:
    """No transport retries (Temporal retries), no redirects followed (a token must not travel to another host)."""
    return httpx.AsyncClient(
        # Waiting for a connection ends before the whole does: then it is known that nothing was sent.
        timeout=httpx.Timeout(TIMEOUT.total_seconds(), connect=4.0, pool=3.0),
        follow_redirects=False,
        transport=httpx.AsyncHTTPTransport(retries=0, limits=httpx.Limits(max_connections=100)),
        headers={"User-Agent": "integrations-runbook"},
        # A proxy from the environment would see every token.
        trust_env=False,
    )


async def ask(client: httpx.AsyncClient, method: str, url: str, **options: Any) -> Response:
    """Send one request and read at most 1 MiB of the answer. Never raises for what the network or provider does."""
    try:
        # httpx bounds each read; an answer that drips would never end.
        async with asyncio.timeout(TIMEOUT.total_seconds()), client.stream(method, url, **options) as answer:
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _BODY_LIMIT:
                    return _trouble(Trouble.LOST, "BodyTooLarge")
            return _heard(answer, body)
    except httpx.HTTPError as error:
        sent = Trouble.NOT_SENT if isinstance(error, _NEVER_SENT) else Trouble.LOST
        return _trouble(sent, type(error).__name__)
    except TimeoutError:
        return _trouble(Trouble.LOST, "Timeout")


def _trouble(trouble: Trouble, kind: str) -> Response:
    return Response(heard=Heard(trouble=trouble, trouble_kind=kind))


def _heard(answer: httpx.Response, body: bytes) -> Response:
    parsed = _parsed(answer, body)
    heard = Heard(
        status=answer.status_code,
        error=error_code(parsed) or _challenge_error(answer.headers.get("www-authenticate")),
        retry_after=retry_after(answer.headers.get("retry-after"), datetime.now(UTC)),
    )
    return Response(heard=heard, body=parsed)


def _parsed(answer: httpx.Response, body: bytes) -> Any:
    try:
        return httpx.Response(answer.status_code, content=body).json()
    except (ValueError, RecursionError):  # no JSON, or nested deeper than any answer of an API
        return None


def _challenge_error(challenge: str | None) -> str | None:
    """The `error` attribute of a Bearer challenge (RFC 6750 section 3)."""
    _, found, rest = (challenge or "").partition('error="')
    return error_code({"error": rest.partition('"')[0]}) if found else None
