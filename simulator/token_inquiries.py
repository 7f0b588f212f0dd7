"""What applications do about a token they have: take it back (RFC 7009), or ask what it is worth (RFC 7662)."""

from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from simulator.client import Client
from simulator.oauth import CLIENT_AUTH_METHODS, OAuthRequest, OAuthServer
from simulator.tokens import AccessToken, RefreshToken


def _find(server: OAuthServer, request: OAuthRequest) -> AccessToken | RefreshToken | None:
    """Find the token, whatever the hint says: one this server cannot use is ignored (RFC 7009 section 2.1)."""
    presented = request.form["token"]  # the route has answered invalid_request where there is none
    found = server.tokens.access(presented, request.now) or server.tokens.refresh(presented, request.now, 0)
    if found:
        request.entry.belongs_to(found.account_id, found.grant_id)
    return found


class Revocation(RevocationEndpoint):  # type: ignore[misc] # Authlib ships no types
    """Either token takes the whole grant along (RFC 7009 section 2.1 asks it of refresh tokens, allows it of both)."""

    CLIENT_AUTH_METHODS = CLIENT_AUTH_METHODS

    def authenticate_token(self, request: OAuthRequest, _client: Client) -> AccessToken | RefreshToken | None:
        return _find(self.server, request)

    def revoke_token(self, token: AccessToken | RefreshToken, request: OAuthRequest) -> None:
        self.server.grants.revoke(request.entry.at, grant_id=token.grant_id)


class Introspection(IntrospectionEndpoint):  # type: ignore[misc] # Authlib ships no types
    """Looks and touches nothing: a retired refresh token that is asked about is no reuse."""

    CLIENT_AUTH_METHODS = CLIENT_AUTH_METHODS

    def authenticate_token(self, request: OAuthRequest, _client: Client) -> AccessToken | RefreshToken | None:
        return _find(self.server, request)

    def introspect_token(self, token: AccessToken | RefreshToken) -> dict[str, object]:
        claims = {
            "active": True,
            "scope": token.scope,
            "client_id": token.client_id,
            "sub": token.account_id,
            "token_type": token.token_type,
            "iat": None if token.issued_at is None else int(token.issued_at),
            "exp": None if token.expires_at is None else int(token.expires_at),
        }
        return {name: value for name, value in claims.items() if value is not None}
