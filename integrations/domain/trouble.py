"""What somebody should look at, in one sentence, and the command for it."""

from datetime import datetime

from integrations.domain.message import Message


class Trouble(Message):
    what: str
    since: datetime | None = None
    next: str
    """A command that can be pasted."""


def amount(count: int | None) -> str:
    return "many (not counted in time)" if count is None else f"{count:,}"
