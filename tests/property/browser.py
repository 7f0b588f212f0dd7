"""A person's browser. The web app answers in this process, the simulator over its socket; redirects stop in between."""

import asyncio
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import httpx
from fastapi import FastAPI

from starters.forms import Form, first_form

# httpx loads every root certificate for each client unless it is given something; nothing here speaks TLS.
_UNUSED_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_SERVER_ERROR = 500


@dataclass
class Browser:
    """With cookies of its own, and somebody with an account at the provider before it."""

    app: FastAPI
    web_url: str
    email: str
    password: str = "pass"

    async def __aenter__(self) -> Self:
        self._hands = asyncio.Lock()
        ours = {self.web_url: httpx.ASGITransport(self.app)}
        self._http = httpx.AsyncClient(mounts=ours, trust_env=False, verify=_UNUSED_TLS, timeout=20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def press(self, link: str) -> str | None:
        """Open an invitation and press its button. Where the provider asks; None without a button."""
        await self.see(link)
        pressed = await self._http.post(link)
        target = urljoin(link, pressed.headers["location"])
        if target.startswith(self.web_url):
            await self.see(target)
            return None
        return target

    async def decides(self, asked_at: str, *, decision: str = "allow", without: Collection[str] = ()) -> str:
        """Log in where it is needed, untick some permissions, press a button. The way back, not yet gone."""
        # One page after the other: two logins at once would void each other's forms.
        async with self._hands:
            return await self._decides(asked_at, decision, without)

    async def _decides(self, asked_at: str, decision: str, without: Collection[str]) -> str:
        page = await self._http.get(asked_at)
        form = first_form(page)
        if any(name == "email" for name, _ in form.fields) or form.action == "/login":
            entered = [(name, value) for name, value in form.fields if name not in {"email", "password"}]
            page = await self._send(page, form, [*entered, ("email", self.email), ("password", self.password)])
            page = await self._http.get(urljoin(str(page.url), page.headers["location"]))
            form = first_form(page)
        ticked = [(name, value) for name, value in form.fields if not (name == "scope" and value in without)]
        answer = await self._send(page, form, [*ticked, ("decision", decision)])
        return answer.headers["location"]

    async def see(self, address: str) -> httpx.Response:
        """Open an address of ours and follow it. Whatever was done before, the person gets a page."""
        answer = await self._http.get(address)
        while answer.is_redirect:
            answer = await self._http.get(urljoin(address, answer.headers["location"]))
        assert answer.status_code < _SERVER_ERROR, f"{answer.url.path} answered {answer.status_code}"
        assert "<h1" in answer.text, f"{answer.url.path} is no page for people"
        return answer

    async def _send(self, page: httpx.Response, form: Form, fields: list[tuple[str, str]]) -> httpx.Response:
        data: dict[str, list[str]] = {}
        for name, value in fields:
            data.setdefault(name, []).append(value)
        return await self._http.post(urljoin(str(page.url), form.action), data=data)
