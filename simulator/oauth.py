"""Authlib's authorization server, fitted to Starlette: requests in, responses out, tokens into the store."""

from collections.abc import Mapping
from typing import Any

from authlib.oauth2 import OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749 import AuthorizationServer
from authlib.oauth2.rfc6749.authenticate_client import authenticate_client_secret_basic
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from starlette.responses import JSONResponse, Response

from simulator.accounts import APPLICATION, Accounts
from simulator.client import Client
from simulator.forms import Parameters
from simulator.grants import Grant, Grants
from simulator.log import Entry
from simulator.scopes import SCOPES
from simulator.settings import SettingsBook
from simulator.tokens import Tokens, new_access_token, new_refresh_token

CLIENT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]
"""RFC 6749 section 2.3.1."""


class OAuthRequest(OAuth2Request):  # type: ignore[misc] # Authlib ships no types
    def __init__(self, entry: Entry, headers: Mapping[str, str], payload: Parameters, now: float) -> None:
        # Authlib insists on https except on loopback. This is a loopback tool whatever a Host header says.
        super().__init__(entry.method, f"http://127.0.0.1{entry.path}", headers=headers)
        self.payload = payload
        self.entry = entry
        self.now = now
        """What the provider's own clock shows."""
        self.granted_scope = ""

    @property
    def form(self) -> dict[str, str]:
        return self.payload.data


class OAuthServer(AuthorizationServer):  # type: ignore[misc] # Authlib ships no types
    def __init__(
        self,
        client: Client,
        accounts: Accounts,
        grants: Grants,
        tokens: Tokens,
        settings: SettingsBook,
    ) -> None:
        super().__init__(scopes_supported=list(SCOPES))
        self.client = client
        self.accounts = accounts
        self.grants = grants
        self.tokens = tokens
        self.settings = settings
        self.register_client_auth_method("client_secret_basic", _authenticate_basic)
        self.register_token_generator(
            "default",
            BearerTokenGenerator(
                lambda **_: new_access_token(),
                lambda **_: new_refresh_token(),
                lambda *_: settings.current.access_token_ttl,
            ),
        )

    def query_client(self, client_id: str) -> Client | None:
        return self.client if client_id == self.client.client_id else None

    def save_token(self, token: dict[str, Any], request: OAuthRequest) -> None:
        """Store what is fresh under its grant."""
        account_id, grant_id = self._grant_of(request)
        request.entry.belongs_to(account_id, grant_id)
        scope, life = token.get("scope", ""), token["expires_in"]
        self.tokens.add_access(token["access_token"], grant_id, scope, request.now, life)
        if refresh_token := token.get("refresh_token"):
            self.tokens.add_refresh(refresh_token, grant_id, request.now, self.settings.current.refresh_token_ttl)

    def _grant_of(self, request: OAuthRequest) -> tuple[str, str]:
        """Whose grant the request is about: a new one for a code, the same one for a refresh, or the application's."""
        if code := request.authorization_code:
            grant_id = self.grants.open(code, request.entry.at)
            if keep := self.settings.current.max_live_grants:
                revoked = self.grants.keep_newest(code.account_id, code.client_id, keep, request.entry.at)
                request.entry.detail["grants_revoked"] = revoked
            return code.account_id, grant_id
        grant = request.refresh_token or self.application_grant(request.entry.at)
        return grant.account_id, grant.grant_id

    def application_grant(self, now: float) -> Grant:
        """Under which the application acts for itself; nobody gave it, so there is always one."""
        client_id = self.client.client_id
        if self.grants.newest_live(APPLICATION, client_id) is None:
            self.grants.add(APPLICATION, client_id, " ".join(self.scopes_supported), now)
        grant = self.grants.newest_live(APPLICATION, client_id)
        assert grant is not None
        return grant

    def create_oauth2_request(self, request: OAuthRequest) -> OAuthRequest:
        """Hand the request through: a body has to be awaited, which only the route can do."""
        return request

    def handle_response(self, status: int, body: str | dict[str, Any], headers: list[tuple[str, str]]) -> Response:
        respond = Response if isinstance(body, str) else JSONResponse
        if isinstance(body, dict) and "access_token" in body and not self.settings.current.echo_scope:
            body = {name: value for name, value in body.items() if name != "scope"}
        return respond(body, status, dict(headers))

    def handle_error_response(self, request: OAuthRequest, error: OAuth2Error) -> Response:
        request.entry.detail["error"] = error.error
        if error.error == "invalid_client":
            # RFC 6749 section 5.2: 401 in any case; Authlib answers 400 when the secret was sent in the body.
            error.status_code = 401
        return super().handle_error_response(request, error)  # type: ignore[no-any-return] # our own handle_response

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens: what happened is told by the request log."""


def _authenticate_basic(query_client: object, request: OAuthRequest) -> Client | None:
    try:
        client: Client | None = authenticate_client_secret_basic(query_client, request)
    except ValueError:
        # Authlib lets a header through that is no base64, or no UTF-8 inside; it names no client.
        return None
    return client
