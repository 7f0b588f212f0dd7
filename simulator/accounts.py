"""The provider's own users, and their sessions in its login pages."""

import secrets
from dataclasses import dataclass

from simulator.store import Store

APPLICATION = "acct_app"
"""Whom the application acts for when it asks with nothing but its own credentials; nobody can log in as it."""

SEEDS = (
    ("acct_ada", "ada@acme.example", "Ada Acme", "ada"),
    ("acct_bob", "bob@other.example", "Bob Other", "bob"),
    (APPLICATION, "app@simulator.example", "The application itself", secrets.token_urlsafe(24)),
)


@dataclass(frozen=True, slots=True)
class Account:
    account_id: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class Session:
    session_id: str
    csrf: str
    account: Account


class Accounts:
    def __init__(self, store: Store) -> None:
        self._store = store
        for seed in SEEDS:
            store.run("INSERT OR IGNORE INTO accounts VALUES (?, ?, ?, ?)", seed)

    def add(self, email: str, name: str, password: str) -> Account | None:
        """Add an account, or answer None when the e-mail address is taken."""
        account = Account(f"acct_{secrets.token_hex(6)}", email, name)
        added = self._store.run(
            "INSERT OR IGNORE INTO accounts VALUES (?, ?, ?, ?)", (account.account_id, email, name, password)
        )
        return account if added else None

    def get(self, account_id: str) -> Account | None:
        row = self._store.row("SELECT account_id, email, name FROM accounts WHERE account_id = ?", (account_id,))
        return Account(*row) if row else None

    def first(self, limit: int) -> list[Account]:
        rows = self._store.rows("SELECT account_id, email, name FROM accounts ORDER BY rowid LIMIT ?", (limit,))
        return [Account(*row) for row in rows]

    def count(self) -> int:
        row = self._store.row("SELECT count(*) FROM accounts")
        assert row is not None
        return int(row[0])

    def log_in(self, email: str, password: str) -> Session | None:
        row = self._store.row("SELECT account_id, email, name, password FROM accounts WHERE email = ?", (email,))
        if row is None or not secrets.compare_digest(row["password"].encode(), password.encode()):
            return None
        session = Session(secrets.token_urlsafe(24), secrets.token_urlsafe(24), Account(*row[:3]))
        self._store.run(
            "INSERT INTO sessions VALUES (?, ?, ?)", (session.session_id, session.account.account_id, session.csrf)
        )
        return session

    def session(self, session_id: str | None) -> Session | None:
        row = self._store.row(
            "SELECT s.session_id, s.csrf, a.account_id, a.email, a.name"
            " FROM sessions s JOIN accounts a USING (account_id) WHERE s.session_id = ?",
            (session_id,),
        )
        return Session(row[0], row[1], Account(*row[2:])) if row else None

    def log_out(self, session_id: str | None) -> None:
        self._store.run("DELETE FROM sessions WHERE session_id = ?", (session_id,))
