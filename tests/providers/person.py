"""Somebody with an account at the simulator, a browser, and a view of what the simulator saw."""

import re
import secrets
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from integrations.providers.oauth import Granted, OAuthClient
from tests.factories import EVERYTHING

BASE = "http://127.0.0.1:9"
"""What conftest registers with the simulator as our web app. Redirects to it are read, not followed."""
CALLBACK = f"{BASE}/oauth/callback/simulator"
_DEFAULTS = {
    "rotate": True,
    "rotation_grace_s": 300,
    "reuse_detection": True,
    "pkce_required": True,
    "echo_scope": True,
}


@dataclass
class Person:
    id: str
    email: str
    password: str
    http: httpx.AsyncClient

    async def consents(self, link: str, *, only: Collection[str] = EVERYTHING) -> str:
        """Log in and allow, as a browser would. The code that comes back."""
        self.http.cookies.clear()
        page = await self.http.get(link)
        entered = {"continue": _field(page, "continue"), "email": self.email, "password": self.password}
        page = await self.http.post("/login", data=entered, follow_redirects=True)
        ticked = {"csrf": _field(page, "csrf"), "scope": list(only), "decision": "allow"}
        action = unescape(re.findall(r'<form method="post" action="([^"]+)"', page.text)[0])
        answer = await self.http.post(urljoin(str(page.url), action), data=ticked)
        return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]

    async def gives(self, client: OAuthClient, *, only: Collection[str] = EVERYTHING) -> tuple[str, str]:
        """A code for this client and the verifier that belongs to it."""
        verifier = secrets.token_urlsafe(48)
        link = client.authorize_url(redirect_uri=CALLBACK, grants=EVERYTHING, state="s" * 43, verifier=verifier)
        return await self.consents(link, only=only), verifier

    async def connects(self, client: OAuthClient) -> Granted:
        """Tokens, by the whole way."""
        code, verifier = await self.gives(client)
        answer = await client.exchange(code, redirect_uri=CALLBACK, verifier=verifier)
        assert answer.granted is not None
        return answer.granted

    async def revokes(self) -> None:
        (await self.http.post("/admin/grants/revoke", json={"account_id": self.id})).raise_for_status()

    async def allows(self, *scopes: str) -> None:
        """Change, in the provider's own pages, what the grant allows."""
        grants = (await self.http.get("/admin/grants")).json()
        [grant] = [g for g in grants if g["account_id"] == self.id and g["revoked_at"] is None]
        order = {"grant_id": grant["grant_id"], "scopes": list(scopes)}
        (await self.http.post("/admin/grants/scopes", json=order)).raise_for_status()

    async def breaks(self, **order: Any) -> None:
        """Order a fault for this account's requests alone."""
        (await self.http.post("/admin/faults", json={"account_id": self.id} | order)).raise_for_status()

    async def heals(self) -> None:
        (await self.http.delete("/admin/faults")).raise_for_status()

    async def settings(self, **changes: Any) -> None:
        (await self.http.put("/admin/settings", json=changes)).raise_for_status()

    async def requests(self, path: str, method: str | None = None) -> list[dict[str, Any]]:
        """What the simulator logged of this account, oldest first."""
        rows = (await self.http.get("/admin/requests", params={"path": path, "limit": 100_000})).json()
        return [row for row in rows if row["account_id"] == self.id and method in {None, row["method"]}]

    async def refreshes(self) -> int:
        return await self._asked_for("refresh_token")

    async def exchanges(self) -> int:
        return await self._asked_for("authorization_code")

    async def _asked_for(self, grant_type: str) -> int:
        return sum(row["detail"].get("grant_type") == grant_type for row in await self.requests("/oauth/token"))


async def somebody(simulator_url: str) -> AsyncIterator[Person]:
    """A new account at a simulator with its usual rules. Fixtures are made of it."""
    async with httpx.AsyncClient(base_url=simulator_url, trust_env=False, timeout=20) as http:
        await http.put("/admin/settings", json=_DEFAULTS)
        name = secrets.token_hex(6)
        person = {"email": f"{name}@acme.example", "name": name, "password": "pass"}
        account = (await http.post("/admin/accounts", json=person)).raise_for_status().json()
        yield Person(account["id"], person["email"], person["password"], http)
        await http.delete("/admin/faults")
        await http.put("/admin/settings", json=_DEFAULTS)


def _field(page: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, f"no field {name} at {page.url.path}: {page.status_code}"
    return unescape(found[1])
