"""What webhooks are sent with: httpx's requests and answers on aiohttp's connections, without httpx's client between.

A client adds cookies, redirects, credentials and merged defaults, none of which a webhook has, and takes a third of the
whole for that. docs/decisions/0007 has the measurements.
"""

from collections.abc import Collection
from typing import Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from integrations.providers.channels.places import Resolver
from integrations.providers.http import kind_of

CONNECTIONS: Final = 100
"""At once, to all receivers together. More than are sent at once, so that nothing ever waits for one."""
_KEPT: Final = 4.0
"""Seconds that an idle connection is kept. Many servers close theirs after 5 (uvicorn, Node), and what is sent on one
that is just being closed is an attempt lost."""


def make_transport(internal: Collection[str] = ()) -> httpx.AsyncBaseTransport:
    """No retries, no redirects, no proxy, no cookies, and no timeout: a sending is bounded as a whole."""
    context = httpx.create_ssl_context(trust_env=False)

    def session() -> aiohttp.ClientSession:
        """Made with the first request: aiohttp wants a running loop."""
        connector = aiohttp.TCPConnector(
            resolver=Resolver(internal), ssl=context, limit=CONNECTIONS, keepalive_timeout=_KEPT
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "integrations-runbook"}
        )

    return AiohttpTransport(verify=context, client=session)


def trouble_of(error: Exception) -> str:
    """A short name for what went wrong below HTTP."""
    return kind_of(error) if isinstance(error, httpx.HTTPError) else "BadAnswer"
