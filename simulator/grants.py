"""Permissions people gave: the code that carries one, the grant itself, and the tokens that stand for it."""

import secrets
from dataclasses import dataclass
from sqlite3 import Row

from simulator.clock import iso
from simulator.store import Store

CODE_LIFE_S = 60
"""Long enough for a redirect, short against a leak (RFC 6749 section 4.1.2 allows ten minutes at most)."""


@dataclass(frozen=True, slots=True)
class Grant:
    grant_id: str
    account_id: str
    client_id: str
    scope: str
    created_at: float
    revoked_at: float | None

    def view(self) -> dict[str, object]:
        return {
            "grant_id": self.grant_id,
            "account_id": self.account_id,
            "client_id": self.client_id,
            "scopes": self.scope.split(),
            "created_at": iso(self.created_at),
            "revoked_at": None if self.revoked_at is None else iso(self.revoked_at),
        }


@dataclass(frozen=True, slots=True)
class Code:
    """What Authlib asks of an authorization code (AuthorizationCodeMixin and CodeChallenge)."""

    code: str
    account_id: str
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str | None
    expires_at: float
    grant_id: str | None = None

    code_challenge_method = "S256"

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


COLUMNS = "grant_id, account_id, client_id, scope, created_at, revoked_at"


class Grants:
    def __init__(self, store: Store) -> None:
        self._store = store

    def save_code(self, code: Code) -> None:
        self._store.run(
            "INSERT INTO codes VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                code.code,
                code.account_id,
                code.client_id,
                code.redirect_uri,
                code.scope,
                code.code_challenge,
                code.expires_at,
            ),
        )

    def code(self, code: str) -> Code | None:
        row = self._store.row("SELECT * FROM codes WHERE code = ?", (code,))
        return Code(*row) if row else None

    def open(self, code: Code, now: float) -> str:
        """Spend a code on a new grant and return the grant's id."""
        grant_id = self.add(code.account_id, code.client_id, code.scope, now)
        self._store.run("UPDATE codes SET grant_id = ? WHERE code = ?", (grant_id, code.code))
        return grant_id

    def add(self, account_id: str, client_id: str, scope: str, now: float) -> str:
        grant_id = f"grant_{secrets.token_hex(8)}"
        self._store.run(
            f"INSERT INTO grants ({COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL)",  # noqa: S608 our own constant
            (grant_id, account_id, client_id, scope, now),
        )
        return grant_id

    def newest_live(self, account_id: str, client_id: str) -> Grant | None:
        row = self._store.row(
            f"SELECT {COLUMNS} FROM grants WHERE account_id = ? AND client_id = ? AND revoked_at IS NULL"  # noqa: S608 our own constant
            " ORDER BY seq DESC LIMIT 1",
            (account_id, client_id),
        )
        return Grant(*row) if row else None

    def change_scope(self, grant_id: str, scope: str) -> bool:
        """Narrow or widen a live grant; what its tokens may do is looked up here, so it concerns them at once."""
        return bool(
            self._store.run(
                "UPDATE grants SET scope = ? WHERE grant_id = ? AND revoked_at IS NULL",
                (scope, grant_id),
            )
        )

    def keep_newest(self, account_id: str, client_id: str, keep: int, now: float) -> int:
        """Revoke what is alive beyond the newest ones, and tell how many those were."""
        return self._store.run(
            "UPDATE grants SET revoked_at = ? WHERE seq IN (SELECT seq FROM grants"
            " WHERE account_id = ? AND client_id = ? AND revoked_at IS NULL ORDER BY seq DESC LIMIT -1 OFFSET ?)",
            (now, account_id, client_id, keep),
        )

    def revoke(self, now: float, *, account_id: str | None = None, grant_id: str | None = None) -> int:
        """Kill every live grant that matches all that is named; its tokens die with it, because they join to it."""
        matching, values = _live(account_id=account_id, grant_id=grant_id)
        return self._store.run(f"UPDATE grants SET revoked_at = ? WHERE {matching}", (now, *values))  # noqa: S608 our own columns

    def live(self, *, account_id: str | None = None, grant_id: str | None = None) -> list[Grant]:
        """What `revoke` would kill."""
        matching, values = _live(account_id=account_id, grant_id=grant_id)
        return _grants(self._store.rows(f"SELECT {COLUMNS} FROM grants WHERE {matching}", values))  # noqa: S608 our own columns

    def all(self) -> list[Grant]:
        return _grants(self._store.rows(f"SELECT {COLUMNS} FROM grants ORDER BY seq"))  # noqa: S608 our own constant

    def newest_of(self, account_id: str, limit: int) -> list[Grant]:
        return _grants(
            self._store.rows(
                f"SELECT {COLUMNS} FROM grants WHERE account_id = ? ORDER BY seq DESC LIMIT ?",  # noqa: S608 our own constant
                (account_id, limit),
            )
        )


def _live(**wanted: str | None) -> tuple[str, list[str]]:
    """The condition of live grants that match all that is named, and its values."""
    named = {column: value for column, value in wanted.items() if value is not None}
    return " AND ".join(["revoked_at IS NULL", *(f"{column} = ?" for column in named)]), list(named.values())


def _grants(rows: list[Row]) -> list[Grant]:
    return [Grant(*row) for row in rows]
