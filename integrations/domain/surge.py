"""When terminal answers at one provider are too many to be true: a wrong client secret, or the provider's mistake.

Each alone would demote a connection, or make it errored. As a surge they are held back, and operators look once.
"""

from datetime import timedelta
from typing import Final

from integrations.domain.message import Message
from integrations.domain.verdict import Meaning

RAISED: Final = "refresh.surge"
OVER: Final = "refresh.surge_over"
TASK: Final = "surge"
"""The kind of the operators' task: one open per provider."""
BY_WEBHOOK: Final = "webhook"
"""The rule of a refusal that no refresh found: the provider said so by itself, and may be as wrong."""


class Limits(Message):
    """A surge is both: this many connections, and this share of those whose refresh was answered in the window."""

    window: timedelta = timedelta(minutes=10)
    connections: int = 5
    share: int = 20
    """Per cent."""

    @property
    def span(self) -> str:
        """The window, for people: `10 min`."""
        return f"{self.window.total_seconds() / 60:g} min"


class Counted(Message):
    """Connections at one provider: distinct ones, however often each was tried."""

    refused: int
    """Answered with a terminal error in the window, or held back since before it; and no newer credential since."""
    tried: int
    """Answered at all in the window, the refused ones among them. Not counted (0) while too few are refused."""
    answer: str = ""
    """The commonest answer, in words: `401 invalid_client`."""
    alike: int = 0
    """How many of the refused had that answer."""
    meaning: Meaning = Meaning.OPERATOR_MUST_ACT
    """What that answer means: who would have to act."""

    def is_surge(self, limits: Limits) -> bool:
        return self.refused >= limits.connections and self.refused * 100 >= limits.share * self.tried

    def words(self, limits: Limits) -> str:
        return (
            f"{self.refused:,} of {self.tried:,} connections whose refresh was answered in {limits.span} were refused, "
            f"most often {self.answer} ({self.alike:,})"
        )


def way_out(provider_id: str, fix: str, meaning: Meaning) -> str:
    """What operators do about a surge. `fix`: what repairs our registration, by the provider's catalog entry."""
    ours = f"if our registration is wrong: {fix}"
    theirs = "if the provider is mistaken: tell it, and wait"
    likely = [ours, theirs] if meaning is Meaning.OPERATOR_MUST_ACT else [theirs, ours]
    return (
        f"{'; '.join(likely)}; either way this closes by itself once refreshes work again. "
        f"If the owners really revoked: runbook refresh release {provider_id}"
    )
