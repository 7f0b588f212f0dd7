"""A simulator on a real socket, and a person with a browser."""

import asyncio
import base64
import hashlib
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from simulator.app import create_app
from simulator.config import Config
from simulator.server import Server
from simulator.settings import Settings

CALLBACK = "http://127.0.0.1:9/oauth/callback/simulator"
CLIENT = ("runbook-test", "a very secret client secret")
EVERYTHING = "profile notes.read notes.write"
# httpx loads every root certificate for each client unless it is given something; nothing here speaks TLS.
UNUSED_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def configured(data: Path | None = None) -> Config:
    return Config(
        client_id=CLIENT[0],
        client_secret=CLIENT[1],
        client_name="The Runbook",
        redirect_uris=frozenset({CALLBACK}),
        links={"Web UI": "http://127.0.0.1:8233/"},
        data=data,
    )


@contextmanager
def serving(data: Path | None = None) -> Iterator[str]:
    """Serve on free ports in a thread of its own, and stop cleanly."""
    server = Server(create_app(configured(data)), "127.0.0.1", 0, mail_port=0)
    server.config.log_level = "error"
    server.config.configure_logging()
    thread = Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the simulator did not start"
        thread.join(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the simulator did not stop"


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    with serving() as address:
        yield address


@dataclass(frozen=True)
class Asked:
    """One authorization request, with what only its sender knows."""

    query: dict[str, str]
    state: str
    verifier: str


def asked(scope: str = EVERYTHING, *, pkce: bool = True, **changes: str) -> Asked:
    state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": CLIENT[0],
        "redirect_uri": CALLBACK,
        "scope": scope,
        "state": state,
        **({"code_challenge": challenge, "code_challenge_method": "S256"} if pkce else {}),
        **changes,
    }
    return Asked({name: value for name, value in query.items() if value}, state, verifier)


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no field {name} in {page}"
    return unescape(found[1])


class Simulator:
    """What a person, an application and an operator do with it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def open(self, request: Asked) -> httpx.Response:
        return await self.http.get(f"/oauth/authorize?{urlencode(request.query)}")

    async def log_in(self, page: httpx.Response, who: str = "ada") -> httpx.Response:
        emails = {"ada": "ada@acme.example", "bob": "bob@other.example"}
        form = {"continue": field(page.text, "continue"), "email": emails[who], "password": who}
        return await self.http.post("/login", data=form, follow_redirects=True)

    async def consent(self, request: Asked, who: str = "ada", *, scopes: str | None = None) -> httpx.Response:
        """Go through both pages; returns the redirect to the application."""
        self.http.cookies.clear()
        page = await self.log_in(await self.open(request), who)
        ticked = re.findall(r'name="scope" value="([^"]+)" checked', page.text) if scopes is None else scopes.split()
        return await self.decide(request, page, decision="allow", scope=ticked)

    async def decide(self, request: Asked, page: httpx.Response, **form: str | list[str]) -> httpx.Response:
        form = {"csrf": field(page.text, "csrf"), **form}
        return await self.http.post(f"/oauth/authorize?{urlencode(request.query)}", data=form)

    async def token(self, auth: tuple[str, str] | None = CLIENT, **form: str) -> httpx.Response:
        return await self.http.post("/oauth/token", data=form, auth=auth)

    async def exchange(self, request: Asked, redirect: httpx.Response, **changes: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": returned(redirect)["code"],
            "redirect_uri": CALLBACK,
            "code_verifier": request.verifier,
            **changes,
        }
        return await self.token(**{name: value for name, value in form.items() if value})

    async def connect(self, scope: str = EVERYTHING, who: str = "ada") -> dict[str, str]:
        """The whole flow; returns the token answer."""
        request = asked(scope)
        answer = await self.exchange(request, await self.consent(request, who))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refresh(self, refresh_token: str) -> httpx.Response:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token)

    async def me(self, access_token: str) -> httpx.Response:
        return await self.http.get("/api/me", headers=bearer(access_token))

    async def settings(self, **changes: object) -> httpx.Response:
        return await self.http.put("/admin/settings", json=changes)

    async def fault(self, **order: object) -> str:
        answer = await self.http.post("/admin/faults", json=order)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def faults(self) -> list[dict[str, object]]:
        return (await self.http.get("/admin/faults")).json()

    async def log(self, **query: str | int) -> list[dict[str, object]]:
        return (await self.http.get("/admin/requests", params=query)).json()

    async def last(self, path: str) -> dict[str, object]:
        return (await self.log(path=path))[-1]

    async def grants(self) -> list[dict[str, object]]:
        return (await self.http.get("/admin/grants")).json()


def returned(redirect: httpx.Response) -> dict[str, str]:
    """The parameters that came back to the application's own address."""
    assert redirect.status_code == 302, redirect.text
    location = urlsplit(redirect.headers["location"])
    assert location._replace(query="").geturl() == CALLBACK
    return {name: values[0] for name, values in parse_qs(location.query).items()}


def bearer(access_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token}"}


@asynccontextmanager
async def visiting(address: str) -> AsyncIterator[Simulator]:
    async with httpx.AsyncClient(base_url=address, timeout=5, verify=UNUSED_TLS) as http:
        yield Simulator(http)


@pytest.fixture
async def simulator(address: str) -> AsyncIterator[Simulator]:
    """The shared simulator, with default settings and no faults, whatever the test before did."""
    async with visiting(address) as simulator:
        for what in ("faults", "inbox", "mail"):
            await simulator.http.delete(f"/admin/{what}")
        await simulator.settings(**Settings(rotation_grace_s=60).model_dump())
        yield simulator


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 3) -> None:
    """Wait for something that happens by itself, such as a request arriving."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.01)
