"""The owner of an account, with a browser: follows links, fills forms in, presses buttons. Over real sockets."""

import re
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import httpx

from starters.forms import Form, first_form


@dataclass
class Owner:
    """Somebody with an account at the provider."""

    email: str
    password: str
    strip_challenge: bool = False
    """A browser that loses the PKCE challenge on the way: for the check that must notice it."""

    async def __aenter__(self) -> Self:
        self._browser = httpx.AsyncClient(trust_env=False, timeout=20.0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._browser.aclose()

    async def consent(self, link: str, *, decision: str = "allow") -> str:
        """Open an invitation and go all the way. The address of the status page, where it ends."""
        invitation = await self._open(link)
        page = await self._follow(await self._browser.post(str(invitation.url)))
        login = first_form(page)
        entered = [(k, v) for k, v in login.fields if k not in {"email", "password"}]
        page = await self._send(page, login, [*entered, ("email", self.email), ("password", self.password)])
        page = await self._send(page, first_form(page), [*first_form(page).fields, ("decision", decision)])
        return str(page.url)

    async def status(self, address: str) -> str:
        """What the status page says, in one word: `completed`, `refused`."""
        page = await self._open(address)
        found = re.search(r'data-status="([a-z_]+)"', page.text)
        return found[1] if found else "unknown"

    async def _open(self, address: str) -> httpx.Response:
        return await self._follow(await self._browser.get(address))

    async def _follow(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect:
            target = urljoin(str(answer.url), answer.headers["location"])
            if self.strip_challenge:
                target = re.sub(r"&code_challenge(_method)?=[^&]*", "", target)
            answer = await self._browser.get(target)
        return answer.raise_for_status()

    async def _send(self, page: httpx.Response, form: Form, fields: list[tuple[str, str]]) -> httpx.Response:
        data: dict[str, list[str]] = {}
        for name, value in fields:
            data.setdefault(name, []).append(value)
        return await self._follow(await self._browser.post(urljoin(str(page.url), form.action), data=data))
