"""Whose request is this? Asked before it is handled, because a fault may concern one account only."""

import time
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from simulator.accounts import APPLICATION, Accounts
from simulator.fingerprint import fingerprint
from simulator.forms import Parameters
from simulator.grants import Grants
from simulator.tokens import Tokens

SESSION_COOKIE = "simulator_session"
CALLED_BY_APPLICATIONS = frozenset({"/oauth/token", "/oauth/revoke", "/oauth/introspect"})
GRANT_TYPES = frozenset({"authorization_code", "refresh_token", "client_credentials"})


@dataclass(frozen=True, slots=True)
class Identity:
    account_id: str | None = None
    grant_id: str | None = None
    grant_type: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    """The facts for the log that are known without handling the request."""


class Identifier:
    def __init__(self, accounts: Accounts, grants: Grants, tokens: Tokens) -> None:
        self._accounts = accounts
        self._grants = grants
        self._tokens = tokens

    def identify(self, scope: Scope, body: bytes) -> Identity:
        headers = Headers(scope=scope)
        if scope["path"] in CALLED_BY_APPLICATIONS:
            return self._by_form(Parameters(body))
        if token := bearer_token(headers):
            return self._by_token(token, {"token_fp": fingerprint(token)})
        session = self._accounts.session(_session_cookie(headers))
        return Identity(session.account.account_id) if session else Identity()

    def _by_form(self, form: Parameters) -> Identity:
        detail = token_request_detail(form)
        if code := self._grants.code(form.get("code") or ""):
            return Identity(code.account_id, code.grant_id, detail["grant_type"], detail)
        if detail["grant_type"] == "client_credentials":
            return Identity(APPLICATION, None, detail["grant_type"], detail)
        presented = form.get("refresh_token") or form.get("token") or ""
        return self._by_token(presented, detail)

    def _by_token(self, presented: str, detail: dict[str, Any]) -> Identity:
        now = time.time()
        token = self._tokens.access(presented, now) or self._tokens.refresh(presented, now, 0)
        grant_type = detail.get("grant_type")
        return (
            Identity(token.account_id, token.grant_id, grant_type, detail)
            if token
            else Identity(grant_type=grant_type, detail=detail)
        )


def token_request_detail(form: Parameters) -> dict[str, Any]:
    """What the log may tell of a request of an application's: the kind of grant and a fingerprint."""
    grant_type = form.get("grant_type")
    presented = form.get("refresh_token") or form.get("code") or form.get("token")
    return {
        # Anything else is the client's own text, and may be anything.
        "grant_type": grant_type if grant_type in GRANT_TYPES else None,
        "token_fp": fingerprint(presented) if presented else None,
    }


def bearer_token(headers: Headers) -> str | None:
    """Read the token from the header, the only place this API takes it from (RFC 6750 section 2.1)."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _session_cookie(headers: Headers) -> str | None:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(SESSION_COOKIE)
    except CookieError:
        return None
    return cookie.value if cookie else None
