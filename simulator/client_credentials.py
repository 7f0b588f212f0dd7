"""Client credentials (RFC 6749 section 4.4): the application acts for itself, and nobody is asked."""

from authlib.oauth2.rfc6749 import InvalidScopeError, UnsupportedGrantTypeError, grants

from simulator.oauth import CLIENT_AUTH_METHODS
from simulator.scopes import DEFAULT_SCOPE


class ApplicationGrant(grants.ClientCredentialsGrant):  # type: ignore[misc] # Authlib ships no types
    """An access token and no refresh token: whoever has the secret can always ask again (section 4.4.3)."""

    TOKEN_ENDPOINT_AUTH_METHODS = CLIENT_AUTH_METHODS

    def validate_token_request(self) -> None:
        if not self.server.settings.current.client_credentials:
            raise UnsupportedGrantTypeError(self.GRANT_TYPE)
        super().validate_token_request()
        wanted = self.request.payload.scope or DEFAULT_SCOPE
        allowed = self.server.application_grant(self.request.entry.at).scope
        if not set(wanted.split()) <= set(allowed.split()):
            raise InvalidScopeError
