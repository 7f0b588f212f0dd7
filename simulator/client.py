"""The one application that is registered here."""

import secrets
from dataclasses import dataclass

from simulator.config import Config
from simulator.identity import GRANT_TYPES
from simulator.scopes import DEFAULT_SCOPE


@dataclass(frozen=True, slots=True)
class Client:
    """What Authlib asks of a client (ClientMixin)."""

    config: Config

    @property
    def client_id(self) -> str:
        return self.config.client_id

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """There is none: a request names its own, and exactly (RFC 9700 section 2.1)."""

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or DEFAULT_SCOPE  # a request for unknown ones was refused before this is asked

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.config.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.config.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method in {"client_secret_basic", "client_secret_post"}

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in GRANT_TYPES
