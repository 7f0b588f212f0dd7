"""Access and refresh tokens, and what a refresh token that comes back means."""

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
    scope: str
    expires_at: float
    expired: bool
    revoked: bool

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
    standing: Standing

    def get_scope(self) -> str:
        return self.scope

    def check_client(self, client: object) -> bool:
        return getattr(client, "client_id", None) == self.client_id


class Tokens:
    def __init__(self, store: Store) -> None:
        self._store = store

    def add_access(self, token: str, grant_id: str, scope: str, expires_at: float) -> None:
        self._store.run("INSERT INTO access_tokens VALUES (?, ?, ?, ?)", (token, grant_id, scope, expires_at))

    def add_refresh(self, token: str, grant_id: str, expires_at: float | None) -> None:
        self._store.run(
            "INSERT INTO refresh_tokens (token, grant_id, expires_at) VALUES (?, ?, ?)", (token, grant_id, expires_at)
        )

    def retire(self, token: str, access: str, refresh: str, now: float) -> None:
        self._store.run(
            "UPDATE refresh_tokens SET retired_at = ?, successor_access = ?, successor_refresh = ? WHERE token = ?",
            (now, access, refresh, token),
        )

    def access(self, token: str, now: float) -> AccessToken | None:
        row = self._store.row(
            "SELECT t.token, t.grant_id, g.account_id, g.client_id, t.scope, t.expires_at,"
            " t.expires_at <= ?, g.revoked_at IS NOT NULL"
            " FROM access_tokens t JOIN grants g USING (grant_id) WHERE t.token = ?",
            (now, token),
        )
        return AccessToken(*row) if row else None

    def refresh(self, token: str, now: float, grace_s: float) -> RefreshToken | None:
        row = self._store.row(
            "SELECT t.token, t.grant_id, g.account_id, g.client_id, g.scope, t.successor_access, t.successor_refresh,"
            " t.expires_at, t.retired_at, g.revoked_at, s.retired_at AS successor_retired_at"
            " FROM refresh_tokens t JOIN grants g USING (grant_id)"
            " LEFT JOIN refresh_tokens s ON s.token = t.successor_refresh WHERE t.token = ?",
            (token,),
        )
        return RefreshToken(*(*row[:7], _standing(row, now, grace_s))) if row else None


def _standing(row: Row, now: float, grace_s: float) -> Standing:
    if row["revoked_at"] is not None:
        return Standing.REVOKED
    if row["retired_at"] is None:
        expired = row["expires_at"] is not None and row["expires_at"] <= now
        return Standing.EXPIRED if expired else Standing.CURRENT
    # Once the successor was used the client has it, so whoever still sends this one is somebody else.
    in_grace = now < row["retired_at"] + grace_s and row["successor_retired_at"] is None
    return Standing.GRACE if in_grace else Standing.REUSE
