"""One connection, its owner, and what the test itself knows of both: what was done to them, never what must follow."""

from dataclasses import dataclass, field
from uuid import UUID

from tests.property.browser import Browser


@dataclass
class Subject:
    name: str
    id: UUID
    account_id: str
    owner: Browser
    stranger: Browser
    """Somebody else, with an account of their own, who got hold of the link."""

    links: list[str] = field(default_factory=list)
    ways_back: list[str] = field(default_factory=list)
    """Callback addresses with this owner's codes, used or not."""

    harmed: bool = False
    """Somebody with a right to do so ended or narrowed the grant, or said that it is over, since it last worked."""
    harmed_now: bool = False
    """… in this very step, so that nothing in it proves the grant alive."""
    tainted: bool = False
    """… while an outage may have held a consent, which could be completed all the same."""
    asked: bool = False
    """A person asked for a consent that nobody has withdrawn since."""
    orphaned: bool = False
    """Its lifecycle was killed by hand, and no sweep has looked since."""

    grant_id: str | None = None
    """The provider's id of the grant whose token is the active one, when the provider was last asked."""
    completed_when_asked: int = 0
    completed: int = 0
    demoted: int = 0
    """How many consents were completed, and how often it stopped being active, when last looked at."""

    def harm(self) -> None:
        self.harmed = self.harmed_now = True

    def __repr__(self) -> str:
        return self.name
