"""The owner's browser, many times at once: it has logged in to the provider and presses Allow."""

import asyncio
import html
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urljoin

import httpx

_AT_ONCE: Final = 8
"""Requests in preparation, outside every clock."""
T = TypeVar("T")


async def several(step: Callable[[Any], Awaitable[T]], items: Iterable[Any], at_once: int = _AT_ONCE) -> list[T]:
    """`step` for each item, a few at a time; the answers in the items' order."""
    gate = asyncio.Semaphore(at_once)

    async def gated(item: Any) -> T:
        async with gate:
            return await step(item)

    return list(await asyncio.gather(*(gated(item) for item in items)))


@dataclass
class Visitor:
    """Ada, who has an account at the simulator. Her cookies are the client's."""

    http: httpx.AsyncClient
    csrf: str | None = None
    _at_the_door: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def consent(self, authorize_url: str) -> str:
        """Press Allow. The address that the provider sends the browser to: with the code in it."""
        async with self._at_the_door:
            if self.csrf is None:
                self.csrf = await self._log_in(authorize_url)
        scopes = httpx.URL(authorize_url).params["scope"].split()
        form = {"csrf": self.csrf, "scope": scopes, "decision": "allow"}
        answer = await self.http.post(authorize_url, data=form)
        address = answer.headers.get("location", "")
        if "code=" not in address:
            raise RuntimeError(f"the simulator gave no code: {answer.status_code}")
        return str(address)

    async def _log_in(self, authorize_url: str) -> str:
        url = httpx.URL(authorize_url)
        form = {"email": "ada@acme.example", "password": "ada", "continue": f"{url.path}?{url.query.decode()}"}
        answer = await self.http.post(urljoin(authorize_url, "/login"), data=form)
        page = await self.http.get(urljoin(authorize_url, answer.headers["location"]))
        found = re.search(r'name="csrf" value="([^"]+)"', page.text)
        if found is None:
            raise RuntimeError(f"the simulator showed no consent page: {page.status_code}")
        return html.unescape(found[1])
