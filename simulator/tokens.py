"""Access and refresh tokens, and what a refresh token that comes back means."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from sqlite3 import Row

from simulator.store import Store


class Standing(StrEnum):
    """What a presented refresh token is.

    current ──rotation──▶ grace ──rotation_grace_s, or the successor rotates──▶ reuse
    """

    CURRENT = "current"
    GRACE = "grace"
    REUSE = "reuse"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What Authlib's bearer validator asks of a token (TokenMixin)."""

    token: str
    grant_id: str
    account_id: str
    client_id: str
    issued_scope: str
    grant_scope: str
    issued_at: float | None
    expires_at: float
    expired: bool
    revoked: bool

    token_type = "Bearer"  # noqa: S105 a name

    @property
    def scope(self) -> str:
        """What it was issued for and its grant still allows: owners take single permissions back."""
        allowed = self.grant_scope.split()
        return " ".join(name for name in self.issued_scope.split() if name in allowed)

    def get_scope(self) -> str:
        return self.scope

    def is_expired(self) -> bool:
        return self.expired

    def is_revoked(self) -> bool:
        return self.revoked


@dataclass(frozen=True, slots=True)
class RefreshToken:
    token: str
    grant_id: str
    account_id: str
    client_id: str
    scope: str
    successor_access: str | None
    successor_refresh: str | None
    issued_at: float | None
    expires_at: float | None
    standing: Standing

    token_type = "refresh_token"  # noqa: S105 a name

    def get_scope(self) -> str:
        return self.scope

    def is_expired(self) -> bool:
        return self.standing is Standing.EXPIRED

    def is_revoked(self) -> bool:
        """A retired one is, even while its successors can be had once more."""
        return self.standing not in {Standing.CURRENT, Standing.EXPIRED}

    def check_client(self, client: object) -> bool:
        return getattr(client, "client_id", None) == self.client_id


def new_access_token() -> str:
    return f"sim_at_{secrets.token_urlsafe(32)}"


def new_refresh_token() -> str:
    return f"sim_rt_{secrets.token_urlsafe(32)}"


class Tokens:
    def __init__(self, store: Store) -> None:
        self._store = store

    def add_access(self, token: str, grant_id: str, scope: str, now: float, life: int) -> None:
        self._store.run(
            "INSERT INTO access_tokens (token, grant_id, scope, issued_at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (token, grant_id, scope, now, now + life),
        )

    def add_refresh(self, token: str, grant_id: str, now: float, life: int | None) -> None:
        self._store.run(
            "INSERT INTO refresh_tokens (token, grant_id, issued_at, expires_at) VALUES (?, ?, ?, ?)",
            (token, grant_id, now, None if life is None else now + life),
        )

    def retire(self, token: str, access: str, refresh: str, now: float) -> None:
        self._store.run(
            "UPDATE refresh_tokens SET retired_at = ?, successor_access = ?, successor_refresh = ? WHERE token = ?",
            (now, access, refresh, token),
        )

    def access(self, token: str, now: float) -> AccessToken | None:
        row = self._store.row(
            "SELECT t.token, t.grant_id, g.account_id, g.client_id, t.scope, g.scope, t.issued_at, t.expires_at,"
            " t.expires_at <= ?, g.revoked_at IS NOT NULL"
            " FROM access_tokens t JOIN grants g USING (grant_id) WHERE t.token = ?",
            (now, token),
        )
        return AccessToken(*row) if row else None

    def renewing(self, access_token: str, now: float) -> str | None:
        """The refresh token of the grant that a living access token stands for."""
        row = self._store.row(
            "SELECT r.token FROM access_tokens t JOIN refresh_tokens r USING (grant_id)"
            " WHERE t.token = ? AND t.expires_at > ? AND r.retired_at IS NULL",
            (access_token, now),
        )
        return row["token"] if row else None

    def refresh(self, token: str, now: float, grace_s: float) -> RefreshToken | None:
        row = self._store.row(
            "SELECT t.token, t.grant_id, g.account_id, g.client_id, g.scope, t.successor_access, t.successor_refresh,"
            " t.issued_at, t.expires_at, t.retired_at, g.revoked_at, s.retired_at AS successor_retired_at"
            " FROM refresh_tokens t JOIN grants g USING (grant_id)"
            " LEFT JOIN refresh_tokens s ON s.token = t.successor_refresh WHERE t.token = ?",
            (token,),
        )
        return RefreshToken(*(*row[:9], _standing(row, now, grace_s))) if row else None


def _standing(row: Row, now: float, grace_s: float) -> Standing:
    if row["revoked_at"] is not None:
        return Standing.REVOKED
    if row["retired_at"] is None:
        expired = row["expires_at"] is not None and row["expires_at"] <= now
        return Standing.EXPIRED if expired else Standing.CURRENT
    # Once the successor was used the client has it, so whoever still sends this one is somebody else.
    in_grace = now < row["retired_at"] + grace_s and row["successor_retired_at"] is None
    return Standing.GRACE if in_grace else Standing.REUSE
