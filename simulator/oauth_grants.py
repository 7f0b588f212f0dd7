"""The grant types that a person stands behind, and PKCE: Authlib's classes, with this provider's memory."""

import secrets
from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError, grants
from authlib.oauth2.rfc7636 import CodeChallenge

from simulator.accounts import Account
from simulator.client import Client
from simulator.client_credentials import ApplicationGrant
from simulator.grants import CODE_LIFE_S, Code
from simulator.oauth import CLIENT_AUTH_METHODS, OAuthRequest, OAuthServer
from simulator.token_inquiries import Introspection, Revocation
from simulator.tokens import AccessToken, RefreshToken, Standing


class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc] # Authlib ships no types
    """RFC 6749 section 4.1."""

    TOKEN_ENDPOINT_AUTH_METHODS = CLIENT_AUTH_METHODS

    def generate_authorization_code(self) -> str:
        return f"sim_ac_{secrets.token_urlsafe(24)}"

    def save_authorization_code(self, code: str, request: OAuthRequest) -> None:
        self.server.grants.save_code(
            Code(
                code=code,
                account_id=request.user.account_id,
                client_id=request.client.client_id,
                redirect_uri=request.payload.redirect_uri,
                scope=request.granted_scope,
                code_challenge=request.payload.get("code_challenge"),
                expires_at=request.now + CODE_LIFE_S,
            )
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """Find a code that may still be used; one that comes twice takes its tokens down (section 4.1.2)."""
        found: Code | None = self.server.grants.code(code)
        if found is None or found.client_id != client.client_id:
            return None
        self.request.entry.belongs_to(found.account_id, found.grant_id)
        if found.grant_id is not None:
            self.request.entry.detail["code"] = "reuse"
            self.server.grants.revoke(self.request.entry.at, grant_id=found.grant_id)
            return None
        if found.expires_at <= self.request.now:
            self.request.entry.detail["code"] = "expired"
            return None
        return found

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """Keep it: the grant it opened is written on it, so that a second use is recognised."""

    def authenticate_user(self, authorization_code: Code) -> Account | None:
        account: Account | None = self.server.accounts.get(authorization_code.account_id)
        return account


class Pkce(CodeChallenge):  # type: ignore[misc] # Authlib ships no types
    """RFC 7636 with S256 only: "plain" protects from nobody who can read the request."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: CodeGrant, redirect_uri: str) -> None:
        challenge = grant.request.payload.get("code_challenge")
        if challenge and grant.request.payload.get("code_challenge_method") != "S256":
            raise InvalidRequestError("Unsupported 'code_challenge_method', only S256 is")
        if not challenge and grant.server.settings.current.pkce_required:
            raise InvalidRequestError("Missing 'code_challenge'")
        super().validate_code_challenge(grant, redirect_uri)

    def validate_code_verifier(self, grant: CodeGrant, result: object) -> None:
        detail = grant.request.entry.detail
        if not grant.request.authorization_code.code_challenge:
            detail["pkce"] = "absent"
            if grant.server.settings.current.pkce_required:
                raise InvalidRequestError("The authorization request had no 'code_challenge'.")
            # The lenient provider: like many real ones it ignores a verifier nobody asked for.
            return
        detail["pkce"] = "failed"
        super().validate_code_verifier(grant, result)
        detail["pkce"] = "verified"


class RefreshGrant(grants.RefreshTokenGrant):  # type: ignore[misc] # Authlib ships no types
    """RFC 6749 section 6, with rotation and reuse detection (RFC 9700 section 4.14.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = CLIENT_AUTH_METHODS

    @property
    def INCLUDE_NEW_REFRESH_TOKEN(self) -> bool:  # noqa: N802 the name is Authlib's
        return bool(self.server.settings.current.rotate)

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        settings, entry = self.server.settings.current, self.request.entry
        token: RefreshToken | None = self.server.tokens.refresh(
            refresh_token, self.request.now, settings.rotation_grace_s
        )
        if token is None:
            entry.detail["refresh"] = "unknown"
            return None
        entry.belongs_to(token.account_id, token.grant_id)
        entry.detail["refresh"] = token.standing.value
        if token.standing is Standing.REUSE and settings.reuse_detection:
            self.server.grants.revoke(self.request.entry.at, grant_id=token.grant_id)
        return token if token.standing in {Standing.CURRENT, Standing.GRACE} else None

    def authenticate_user(self, refresh_token: RefreshToken) -> Account | None:
        account: Account | None = self.server.accounts.get(refresh_token.account_id)
        return account

    def issue_token(self, user: Account, refresh_token: RefreshToken) -> dict[str, Any]:
        if refresh_token.standing is Standing.GRACE:
            return self._successors(refresh_token)
        token: dict[str, Any] = super().issue_token(user, refresh_token)
        return token

    def _successors(self, retired: RefreshToken) -> dict[str, Any]:
        access: AccessToken | None = self.server.tokens.access(str(retired.successor_access), self.request.now)
        assert access is not None
        return {
            "token_type": "Bearer",
            "access_token": access.token,
            "expires_in": max(0, int(access.expires_at - self.request.now)),
            "refresh_token": retired.successor_refresh,
            "scope": access.scope,
        }

    def save_token(self, token: dict[str, Any]) -> None:
        """Store a pair and retire the token that was paid for it; a pair given again is stored already."""
        presented: RefreshToken = self.request.refresh_token
        if presented.standing is Standing.GRACE:
            return
        super().save_token(token)
        if "refresh_token" in token:
            self.server.tokens.retire(presented.token, token["access_token"], token["refresh_token"], self.request.now)
        self.request.entry.detail["refresh"] = "rotated" if "refresh_token" in token else "kept"

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        """Nothing is left to do: retiring needs the successors' names, so save_token does it."""


def register(server: OAuthServer) -> None:
    server.register_grant(CodeGrant, [Pkce()])
    server.register_grant(RefreshGrant)
    server.register_grant(ApplicationGrant)
    server.register_endpoint(Revocation)
    server.register_endpoint(Introspection)
