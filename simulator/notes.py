"""What the API keeps for an account: short notes."""

import secrets
from dataclasses import dataclass

from simulator.clock import iso
from simulator.store import Store

COLUMNS = "note_id, text, created_at"


@dataclass(frozen=True, slots=True)
class Note:
    note_id: str
    text: str
    created_at: float

    def view(self) -> dict[str, str]:
        return {"id": self.note_id, "text": self.text, "created_at": iso(self.created_at)}


class Notes:
    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, account_id: str, text: str, key: str | None, now: float) -> tuple[Note, bool]:
        """Write a note once per idempotency key; the flag says if this call wrote it."""
        note = Note(f"note_{secrets.token_hex(8)}", text, now)
        created = self._store.run(
            f"INSERT OR IGNORE INTO notes ({COLUMNS}, account_id, idempotency_key) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 our own constant
            (note.note_id, text, now, account_id, key),
        )
        if created:
            return note, True
        first = self._store.row(
            f"SELECT {COLUMNS} FROM notes WHERE account_id = ? AND idempotency_key = ?",  # noqa: S608 our own constant
            (account_id, key),
        )
        assert first is not None
        return Note(*first), False

    def newest(self, account_id: str, limit: int) -> list[Note]:
        rows = self._store.rows(
            f"SELECT {COLUMNS} FROM notes WHERE account_id = ? ORDER BY seq DESC LIMIT ?",  # noqa: S608 our own constant
            (account_id, limit),
        )
        return [Note(*row) for row in rows]
