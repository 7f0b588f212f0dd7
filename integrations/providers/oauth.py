"""OAuth 2.0 from the client's side, for one connection to one provider of the catalog.

RFC 6749 (code, refresh and client credentials grants), RFC 7636 (PKCE, S256), RFC 7009 (revocation), RFC 7662
(introspection), RFC 6750 (bearer tokens).
"""

import base64
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from pydantic import Field, SecretStr

from integrations.domain.answer import value_at
from integrations.domain.call import Caller
from integrations.domain.message import Message
from integrations.domain.verdict import Endpoint, Heard, Meaning, Trouble, Verdict, judge
from integrations.providers.catalog import Catalog, ClientCredentials
from integrations.providers.entry import CLIENT_ID, Call, Provider
from integrations.providers.granted import Granted, granted_by, storable
from integrations.providers.http import Response, ask
from integrations.providers.report import Record, Report, nothing, reporting


class Answer(Message):
    verdict: Verdict
    heard: Heard


class TokenAnswer(Answer):
    granted: Granted | None = None


class Account(Message):
    id: str
    name: str | None = None


class IdentityAnswer(Answer):
    account: Account | None = None
    values: dict[str, str] = Field(default_factory=dict)
    """What completes the provider's addresses, as far as this answer tells it."""


class IntrospectionAnswer(Answer):
    active: bool | None = None
    """None: it did not say."""


class OAuthClient:
    """One provider. Stateless: tokens come in as arguments and go out as values.

    `values` complete the addresses of an entry that has variables. A method that needs one that is not there raises
    NotReadyError; nothing else is raised for what a provider does. Each call is reported once its outcome is known; one
    that is cancelled is not, for nothing was heard.
    """

    def __init__(
        self,
        provider: Provider,
        credentials: ClientCredentials,
        http: httpx.AsyncClient,
        values: Mapping[str, Any] | None = None,
        report: Report = nothing,
    ) -> None:
        self.provider = provider
        self._credentials = credentials
        self._http = http
        self._values = dict(values or {}) | {CLIENT_ID: credentials.client_id}
        self._report = report

    def authorize_url(self, *, redirect_uri: str, grants: list[str], state: str, verifier: str) -> str:
        """Where the owner's browser goes (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
        asked = dict.fromkeys([*self.provider.always_ask, *grants])
        query = {
            "response_type": "code",
            self.provider.client_id_parameter: self._credentials.client_id,
            "redirect_uri": redirect_uri,
            "state": state,
        } | self.provider.authorize_parameters
        if asked:
            query["scope"] = self.provider.scope_separator.join(asked)
        if self.provider.pkce:
            query |= {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
        url = self._filled(self.provider.authorize_url)
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"

    async def exchange(self, code: str, *, redirect_uri: str, verifier: str) -> TokenAnswer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        form |= self.provider.exchange_parameters
        return await self._token(form | ({"code_verifier": verifier} if self.provider.pkce else {}), code, verifier)

    async def refresh(self, token: SecretStr) -> TokenAnswer:
        """Renew with the token that the entry's `refresh_by` sends: the refresh token, but for a few."""
        by, secret = self.provider.refresh_by, token.get_secret_value()
        return await self._token({"grant_type": by.grant_type, by.parameter: secret}, secret)

    async def client_credentials(self, grants: list[str]) -> TokenAnswer:
        """A token in our own name (RFC 6749 section 4.4)."""
        asked = [*self.provider.always_ask, *grants]
        scope = {"scope": self.provider.scope_separator.join(asked)} if asked else {}
        return await self._token({"grant_type": "client_credentials"} | scope)

    async def revoke(self, token: SecretStr) -> Answer:
        """Give a grant back (RFC 7009). A token that is not known there any more is revoked as well.

        The caller sees to it that the entry has a `revoke_url`.
        """
        assert self.provider.revoke_url is not None
        # Section 2.2: the body of a success means nothing.
        form = {"token": token.get_secret_value()}
        answer, seconds = await self._post(self.provider.revoke_url, form, expects_json=False)
        verdict = self._judge(answer.heard, Endpoint.TOKEN)
        self._report("revoke", verdict, answer, seconds)
        return Answer(verdict=verdict, heard=answer.heard)

    async def introspect(self, token: SecretStr) -> IntrospectionAnswer:
        """Does a token live? Asking changes nothing (RFC 7662). The caller sees to it that the entry offers it."""
        assert self.provider.introspect_url is not None
        answer, seconds = await self._post(self.provider.introspect_url, {"token": token.get_secret_value()})
        verdict = self._judge(answer.heard, Endpoint.TOKEN)
        self._report("introspect", verdict, answer, seconds)
        said = value_at(answer.body, "active") if verdict.meaning is Meaning.OK else None
        return IntrospectionAnswer(verdict=verdict, heard=answer.heard, active=said if isinstance(said, bool) else None)

    async def identity(self, access_token: SecretStr) -> IdentityAnswer:
        """Whose account is this?"""
        wanted = self.provider.identity
        # What this very answer brings cannot be in its request's headers.
        headers = self._headers(self.provider.told_by("identity"))
        answer, seconds = await self._ask_api(Call(method=wanted.method, url=wanted.url), access_token, headers)
        told = self._told_by(answer)
        self._report("identity", told.verdict, answer, seconds)
        return told

    def _told_by(self, answer: Response) -> IdentityAnswer:
        verdict, wanted = self.judge_call(answer), self.provider.identity
        if verdict.meaning is not Meaning.OK:
            return IdentityAnswer(verdict=verdict, heard=answer.heard)
        found = self._values.get(wanted.variable) if wanted.variable else value_at(answer.body, wanted.field or "")
        if not isinstance(found, str | int) or isinstance(found, bool):
            unknown = Verdict(
                meaning=Meaning.UNKNOWN, because=f"the identity answer has no {wanted.field or wanted.variable!r}"
            )
            return IdentityAnswer(verdict=unknown, heard=answer.heard)
        name = value_at(answer.body, wanted.name_field) if wanted.name_field else None
        return IdentityAnswer(
            verdict=verdict,
            heard=answer.heard,
            account=Account(id=storable(str(found)), name=storable(name) if isinstance(name, str) else None),
            values=self.provider.values_of("identity", answer.body),
        )

    async def call(
        self, call: Call, access_token: SecretStr, *, payload: Any = None, idempotency_key: str | None = None
    ) -> Response:
        """Call the API with a token: a capability's call, or its probe."""
        headers = self._headers() | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})
        answer, seconds = await self._ask_api(call, access_token, headers, payload)
        self._report(self.provider.name_of(call), self.judge_call(answer), answer, seconds)
        return answer

    def _headers(self, without: Collection[str] = ()) -> dict[str, str]:
        given = self.provider.api_headers.items()
        return {name: self._filled(text) for name, text in given if not self.provider.placeholders(text) & set(without)}

    async def _ask_api(
        self, call: Call, access_token: SecretStr, headers: dict[str, str], payload: Any = None
    ) -> tuple[Response, float]:
        token = access_token.get_secret_value()
        headers = headers | {self.provider.token_header: f"{self.provider.token_prefix}{token}"}
        return await self._ask(
            call.method,
            call.url,
            expects_json=call.answers == "json",
            secrets=[token],
            headers=headers,
            **({"json": payload} if call.method != "GET" else {}),
        )

    async def _ask(self, method: str, url: str, **options: Any) -> tuple[Response, float]:
        """The answer, and the seconds that it took."""
        filled, began = self._filled(url), time.perf_counter()
        answer = await ask(self._http, method, filled, reading=self.provider.reading, **options)
        return answer, time.perf_counter() - began

    def judge_call(self, answer: Response) -> Verdict:
        return self._judge(answer.heard, Endpoint.API)

    async def _token(self, form: dict[str, str], *secrets: str) -> TokenAnswer:
        answer, seconds = await self._post(self.provider.token_url, form, *secrets)
        verdict, heard = self._judge(answer.heard, Endpoint.TOKEN), answer.heard
        granted = granted_by(self.provider, answer.body) if verdict.meaning is Meaning.OK else None
        if granted is None and heard.succeeded and not heard.error:
            # A success that cannot be read: tokens may have been issued and are lost to us.
            heard = heard.model_copy(update={"trouble": Trouble.LOST, "trouble_kind": "UnreadableAnswer"})
        if granted is None and verdict.meaning is Meaning.OK:
            because = "a success without an access token in it"
            verdict = Verdict(meaning=Meaning.UNKNOWN, because=because, rule="success-without-token")
        self._report("token", verdict, answer, seconds)
        return TokenAnswer(verdict=verdict, heard=heard, granted=granted)

    async def _post(
        self, url: str, form: dict[str, str], *secrets: str, expects_json: bool = True
    ) -> tuple[Response, float]:
        """Send a form to an endpoint that wants to know the client (RFC 6749 section 2.3.1)."""
        client_id, secret = self._credentials.client_id, self._credentials.client_secret.get_secret_value()
        headers = {"Accept": "application/json"}
        if self.provider.token_auth == "basic":  # noqa: S105 - a method's name
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form = form | {self.provider.client_id_parameter: client_id, "client_secret": secret}
        return await self._ask(
            "POST",
            url,
            expects_json=expects_json,
            secrets=[secret, *secrets],
            data=form,
            headers=headers,
        )

    def _filled(self, text: str) -> str:
        return self.provider.fill(text, self._values)

    def _judge(self, heard: Heard, endpoint: Endpoint) -> Verdict:
        return judge(heard, self.provider.vocabulary, endpoint)


class Providers:
    """The catalog, ready to be called. `record` hears of the calls that are made on somebody's behalf."""

    def __init__(self, catalog: Catalog, http: httpx.AsyncClient, record: Record | None = None) -> None:
        self.catalog = catalog
        self._http = http
        self._record = record

    def client(
        self, provider_id: str, values: Mapping[str, Any] | None = None, caller: Caller | None = None
    ) -> OAuthClient:
        """One for the calls of one connection: light enough to be made for each.

        Raises CatalogError when the provider is unknown, NotReadyError when its client credentials are not set.
        """
        provider, credentials = self.catalog.provider(provider_id), self.catalog.credentials(provider_id)
        report = reporting(provider_id, caller, self._record) if caller and self._record else nothing
        return OAuthClient(provider, credentials, self._http, values, report)
