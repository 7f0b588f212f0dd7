"""One SQLite connection, used by one thread: the event loop's. Statements are short enough to run on it directly."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simulator.schema import TABLES, UPGRADES, VERSION

Value = str | int | float | None


class WrongDataVersionError(Exception):
    """The data file was written by a newer simulator than this; name another file, or delete this one."""


class Store:
    def __init__(self, path: Path | None) -> None:
        # "" is a private temporary database: it spills to disk instead of growing in memory while a bench runs.
        # The thread check is off because tests build the app in one thread and serve it in another, one at a time.
        self._connection = sqlite3.connect(str(path or ""), isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        # A killed process loses nothing without fsync; only a dead machine would, and nobody's money is in here.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(f"PRAGMA journal_mode = {'WAL' if path else 'MEMORY'}")
        self._upgrade(path)
        self._connection.executescript(TABLES)

    def _upgrade(self, path: Path | None) -> None:
        """Bring an older file up to date, one version after the other; a fresh one has the version 0."""
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            self._connection.close()
            raise WrongDataVersionError(f"{path} has data version {version}, this simulator reads up to {VERSION}")
        # One transaction, so that a process killed in the middle leaves the file as it was.
        steps = "".join(UPGRADES[old] for old in range(version, VERSION) if version)
        self._connection.executescript(f"BEGIN; {steps} PRAGMA user_version = {VERSION}; COMMIT")

    def run(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        return self._connection.execute(sql, values).rowcount

    def row(self, sql: str, values: Sequence[Value] = ()) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[sqlite3.Row]:
        return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several statements one. Nothing may be awaited inside: other requests share the connection."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
