"""Keys in use: what is known of each, what is wrong with it, and the messages of a re-encryption."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import Field

from integrations.domain.message import Message

REENCRYPT_ID: Final = "keys-reencrypt"
_SHOWN: Final = 10
"""So many rows that do not open are named. The others are counted: a history is no place for a long list."""


class KeyPlace(StrEnum):
    CURRENT = "current"
    """It seals."""
    STAGED = "staged"
    """It opens, and will seal once it is activated."""
    OLD = "old"
    """It opens what it sealed, until that is re-encrypted."""
    RETIRED = "retired"
    """Given up: nothing was sealed with it any more."""
    MISSING = "missing"
    """The database knows it or has rows of it, and this process's ring does not."""


class Proof(StrEnum):
    OPENS = "opens"
    WRONG = "does not open"
    NONE = "none"
    """There is nothing to try, or no key to try it with."""


class KeyState(Message):
    """One key as this process and the database see it. Never the key itself."""

    key_id: str
    place: KeyPlace
    made_at: datetime | None = None
    made_by: str | None = None
    retired_at: datetime | None = None
    retired_by: str | None = None
    rows: dict[str, int] = Field(default_factory=dict)
    """What is sealed with it: how many of each kind."""
    canary: Proof = Proof.NONE
    row: Proof = Proof.NONE
    """Does the newest row that is sealed with it open?"""

    @property
    def in_use(self) -> int:
        return sum(self.rows.values())

    @property
    def trouble(self) -> str:
        """What is wrong, in words. Empty when nothing is."""
        if self.place is KeyPlace.MISSING and self.in_use:
            return "it is not in the ring: what is sealed with it does not open"
        if self.canary is Proof.WRONG:
            return "the ring has other bytes under this id than the key that the database knows"
        if self.row is Proof.WRONG:
            return "its newest row does not open: other bytes under this id, or altered data"
        if self.place is KeyPlace.CURRENT and self.retired_at:
            return "it was retired, and this ring still seals with it"
        return ""

    def next_step(self, where: str) -> str:
        """The way out of trouble, or the next command of a rotation. `where` says where the keys are."""
        if self.trouble and self.place is KeyPlace.CURRENT and self.retired_at:
            return "take over the ring of the machine that rotated"
        if self.trouble:
            return f"put the right {self.key_id} into {where}: docs/runbook/keys.md, a lost key"
        if self.place is KeyPlace.STAGED:
            return f"runbook keys rotate --activate {self.key_id}"
        if self.place is KeyPlace.OLD:
            return "runbook keys reencrypt" if self.in_use else f"runbook keys retire {self.key_id}"
        return ""


class ReencryptRequest(Message):
    """Seal everything with one key."""

    key_id: str
    by: str
    reason: str

    @property
    def key(self) -> str:
        return REENCRYPT_ID


class Unopened(Message):
    """Rows that no key of the worker's ring opens. They are left as they are."""

    count: int = 0
    named: list[str] = Field(default_factory=list)
    """The first of them, each with the reason, in ids and words."""

    def with_one(self, why: str) -> "Unopened":
        return Unopened(count=self.count + 1, named=[*self.named, why][:_SHOWN])


class Pass(Message):
    """How far one walk over every sealed row is, and what it met."""

    what: str = ""
    """The kind of rows it is at; empty before the first one."""
    after: str | None = None
    """The id of the last row that was looked at."""
    done: bool = False
    moved: int = 0
    """Sealed anew. A step that was killed and taken up again may have moved one heartbeat's worth more."""
    busy: int = 0
    """Left to the next pass: another transaction had the row, or has changed it."""
    unopened: Unopened = Unopened()


class ReencryptStep(Message):
    key_id: str
    at: Pass


class Left(Message):
    """How many rows are sealed with another key than the wanted one."""

    rows: int


class Reencrypted(Message):
    key_id: str
    moved: int
    left: int
    """Still sealed with another key: the unopened ones, and what a process has sealed with an old key meanwhile."""
    unopened: Unopened = Unopened()

    @property
    def complete(self) -> bool:
        return self.left == 0
