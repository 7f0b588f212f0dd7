"""The owner of an account at the simulator, with a browser that stops where the application would take over."""

from collections.abc import Collection
from dataclasses import dataclass, field
from html import unescape
from re import findall, sub
from typing import Final
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx

from starters.forms import Form, first_form

CALLBACK: Final = "http://127.0.0.1:9/oauth/callback"
"""Nobody listens there: the redirect to it is read and not followed."""
_PAGES: Final = 8
"""More than login and consent take: whoever is led on further is led in circles."""


@dataclass(frozen=True, slots=True)
class Consent:
    code: str | None
    query: dict[str, str] = field(default_factory=dict)
    """What came back to the application's address."""
    heard: str = ""
    """In words, where no code came."""


@dataclass(frozen=True, slots=True)
class Visitor:
    http: httpx.AsyncClient
    email: str = "ada@acme.example"
    password: str = "ada"  # noqa: S105 - the simulator prints it on its login page

    async def consents(self, link: str, *, without: Collection[str] = ()) -> Consent:
        """Log in where that is asked, untick some of the scopes, and allow the others."""
        page = await self.http.get(link)
        for _ in range(_PAGES):
            if page.is_redirect:
                target = urljoin(str(page.url), page.headers["location"])
                if target.startswith(CALLBACK):
                    return _came_back(target)
                page = await self.http.get(target)
            elif page.status_code == httpx.codes.OK:
                form = first_form(page)
                page = await self.http.post(urljoin(str(page.url), form.action), data=self._filled_in(form, without))
            else:
                break
        return Consent(None, heard=f"{page.status_code} {_in_words(page)}".strip())

    def _filled_in(self, form: Form, without: Collection[str]) -> dict[str, list[str]]:
        data: dict[str, list[str]] = {"decision": ["allow"]}
        for name, value in form.fields:
            if not (name == "scope" and value in without):
                data.setdefault(name, []).append(value)
        return data | {name: [value] for name, value in self._own.items() if name in data}

    @property
    def _own(self) -> dict[str, str]:
        return {"email": self.email, "password": self.password}


def _came_back(target: str) -> Consent:
    query = dict(parse_qsl(urlsplit(target).query))
    told = [query[name] for name in ("error", "error_description") if name in query]
    return Consent(query.get("code"), query, ": ".join(told))


def _in_words(page: httpx.Response) -> str:
    paragraphs = findall(r"<p[^>]*>(.*?)</p>", page.text)
    return unescape(sub(r"<[^>]+>", "", paragraphs[0])) if paragraphs else page.reason_phrase
