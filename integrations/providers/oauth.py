"""OAuth 2.0 from the client's side, for one provider of the catalog.

RFC 6749 (code grant, refresh), RFC 7636 (PKCE, S256), RFC 7009 (revocation), RFC 6750 (bearer tokens).
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeGuard
from urllib.parse import urlencode

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from pydantic import SecretStr

from integrations.domain.message import Message
from integrations.domain.verdict import Heard, Meaning, Trouble, Verdict, judge, judge_token
from integrations.providers.catalog import Call, Catalog, ClientCredentials, Provider
from integrations.providers.http import Response, ask

_TOKEN: Final = re.compile(r"[\x20-\x7e]+")
_LONGEST: Final = 10 * 365 * 24 * 3600
"""Ten years in seconds: a larger expires_in means "never", and would overflow a date."""


class Granted(Message):
    """What the token endpoint gave. `repr` shows no token."""

    access_token: SecretStr
    refresh_token: SecretStr | None
    grants: tuple[str, ...] | None
    """None: the answer named no scope, which means those that were asked for (RFC 6749 section 5.1)."""
    expires_at: datetime | None


class TokenAnswer(Message):
    verdict: Verdict
    heard: Heard
    granted: Granted | None = None


class Account(Message):
    id: str
    name: str | None = None


class IdentityAnswer(Message):
    verdict: Verdict
    heard: Heard
    account: Account | None = None


class OAuthClient:
    """One provider. Stateless: tokens come in as arguments and go out as values."""

    def __init__(self, provider: Provider, credentials: ClientCredentials, http: httpx.AsyncClient) -> None:
        self.provider = provider
        self._credentials = credentials
        self._http = http

    def authorize_url(self, *, redirect_uri: str, grants: list[str], state: str, verifier: str) -> str:
        """Where the owner's browser goes (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
        query = {
            "response_type": "code",
            "client_id": self._credentials.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.provider.scope_separator.join(grants),
            "state": state,
        }
        if self.provider.pkce:
            query |= {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
        return f"{self.provider.authorize_url}?{urlencode(query)}"

    async def exchange(self, code: str, *, redirect_uri: str, verifier: str) -> TokenAnswer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        return await self._token(form | ({"code_verifier": verifier} if self.provider.pkce else {}))

    async def refresh(self, refresh_token: SecretStr) -> TokenAnswer:
        return await self._token({"grant_type": "refresh_token", "refresh_token": refresh_token.get_secret_value()})

    async def identity(self, access_token: SecretStr) -> IdentityAnswer:
        """Whose account is this?"""
        wanted = self.provider.identity
        answer = await self.call(Call(method="GET", url=wanted.url), access_token)
        verdict = self._judge(answer.heard)
        if verdict.meaning is not Meaning.OK:
            return IdentityAnswer(verdict=verdict, heard=answer.heard)
        body = answer.body if isinstance(answer.body, dict) else {}
        if not isinstance(body.get(wanted.field), str | int):
            unknown = Verdict(meaning=Meaning.UNKNOWN, because=f"the identity answer has no field {wanted.field!r}")
            return IdentityAnswer(verdict=unknown, heard=answer.heard)
        name = body.get(wanted.name_field) if wanted.name_field else None
        account = Account(
            id=_storable(str(body[wanted.field])), name=_storable(name) if isinstance(name, str) else None
        )
        return IdentityAnswer(verdict=verdict, heard=answer.heard, account=account)

    async def call(
        self, call: Call, access_token: SecretStr, *, payload: Any = None, idempotency_key: str | None = None
    ) -> Response:
        headers = {"Authorization": f"Bearer {access_token.get_secret_value()}"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        body = {"json": payload} if call.method != "GET" else {}
        return await ask(self._http, call.method, call.url, headers=headers, **body)

    def judge_call(self, answer: Response) -> Verdict:
        return self._judge(answer.heard)

    async def _token(self, form: dict[str, str]) -> TokenAnswer:
        secret = self._credentials.client_secret.get_secret_value()
        options: dict[str, Any] = {"headers": {"Accept": "application/json"}}
        if self.provider.token_auth == "basic":  # noqa: S105 - the name of a method, RFC 6749 section 2.3.1
            options["auth"] = httpx.BasicAuth(self._credentials.client_id, secret)
        else:
            form = form | {"client_id": self._credentials.client_id, "client_secret": secret}
        answer = await ask(self._http, "POST", self.provider.token_url, data=form, **options)
        verdict = judge_token(answer.heard, terminal_errors=self.provider.terminal_errors)
        if verdict.meaning is not Meaning.OK:
            return TokenAnswer(verdict=verdict, heard=answer.heard)
        granted = self._granted(answer.body)
        if granted is None:
            # A success that cannot be read: tokens may have been issued and are lost to us.
            lost = answer.heard.model_copy(update={"trouble": Trouble.LOST, "trouble_kind": "UnreadableAnswer"})
            unknown = Verdict(meaning=Meaning.UNKNOWN, because="a success without an access token in it")
            return TokenAnswer(verdict=unknown, heard=lost)
        return TokenAnswer(verdict=verdict, heard=answer.heard, granted=granted)

    def _granted(self, body: Any) -> Granted | None:
        if not isinstance(body, dict) or not _is_token(body.get("access_token")):
            return None
        scope, seconds, refresh = body.get("scope"), body.get("expires_in"), body.get("refresh_token")
        separated = scope.replace(self.provider.scope_separator, " ").split() if isinstance(scope, str) else None
        lasts = timedelta(seconds=min(seconds, _LONGEST)) if isinstance(seconds, int) and seconds >= 0 else None
        return Granted(
            access_token=SecretStr(body["access_token"]),
            refresh_token=SecretStr(refresh) if _is_token(refresh) else None,
            grants=tuple(separated) if separated is not None else None,
            expires_at=datetime.now(UTC) + lasts if lasts is not None else None,
        )

    def _judge(self, heard: Heard) -> Verdict:
        return judge(heard, terminal_errors=self.provider.terminal_errors)


def _storable(text: str) -> str:
    """Text without what Postgres cannot hold: NUL, and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _is_token(value: object) -> TypeGuard[str]:
    """RFC 6749 appendix A.12 and A.17: visible ASCII. Anything else could not go into a header."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


class Providers:
    """The catalog, ready to be called."""

    def __init__(self, catalog: Catalog, http: httpx.AsyncClient) -> None:
        self.catalog = catalog
        self._http = http

    def client(self, provider_id: str) -> OAuthClient:
        """Raises CatalogError when the provider is unknown or its client credentials are not set."""
        return OAuthClient(self.catalog.provider(provider_id), self.catalog.credentials(provider_id), self._http)
