"""A channel for people and for its self-test: whose it is, what is accepted there, and what its last test found."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from integrations.domain.message import Message


class Secret(Message):
    """One that is accepted. Nothing of what it is."""

    version: int
    made_at: datetime
    ends_at: datetime | None
    """Of one that was replaced."""


class Channel(Message):
    provider: str
    channel: str
    connection_id: UUID | None
    orphaned: bool = False
    """Its connection was given up."""
    made_at: datetime
    secrets: list[Secret]
    """The live ones, the newest first."""
    overdue: list[Secret] = Field(default_factory=list)
    """No more accepted, and not forgotten yet."""
    tested_hash: str | None
    tested_at: datetime | None
    tested: dict[str, Any] | None

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.channel}"

    @property
    def versions(self) -> list[int]:
        return [secret.version for secret in self.secrets]

    @property
    def passed(self) -> bool:
        return bool(self.tested and self.tested.get("passed"))

    @property
    def failures(self) -> list[str]:
        """What the last self-test found wrong."""
        cases = self.tested["cases"] if self.tested else []
        return [f"{case['name']}: {case['got']}, and not {case['expected']}" for case in cases if not case["passed"]]
