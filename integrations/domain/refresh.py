"""Refreshing one connection: its messages, and what a confirmed refusal means."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from integrations.domain.connection import refresh_id
from integrations.domain.message import Message
from integrations.domain.verdict import Meaning

CONFIRM_AFTER: Final = timedelta(seconds=10)
"""Between a refusal and the second look that may call the grant dead."""
RETIRED_KEPT: Final = timedelta(days=7)
"""How long a credential that another one replaced is kept, for whoever asks what was when."""
_AT_LEAST_DAILY: Final = timedelta(hours=24)
_EARLIER: Final = 0.2
"""Of the wait. So much is given up, so that what was connected in one minute is not refreshed in one minute."""


def due_at(now: datetime, expires_at: datetime | None, lead: timedelta, spread: float) -> datetime:
    """When a token is to be refreshed next: within the provider's lead time, and once a day at least.

    `spread`, in [0, 1): where in the last fifth of the wait. A lead of more than half of the token's life would have it
    refreshed again and again: then it is refreshed at half.
    """
    wait = _AT_LEAST_DAILY
    if expires_at is not None:
        life = max(expires_at - now, timedelta(0))
        wait = min(wait, max(life - lead, life / 2))
    return now + wait * (1 - _EARLIER * spread)


class RefreshRequest(Message):
    """Refresh one connection once, whatever its token's age."""

    connection_id: UUID
    provider_id: str
    tenant: str
    by: str
    reason: str
    confirm_after: timedelta = CONFIRM_AFTER
    known_version: int | None = None
    """The credential version that failed or was refused elsewhere. A newer one has answered the question."""
    refused: "Refreshed | None" = None
    """What a sweep was told already: only to be confirmed."""

    @property
    def key(self) -> str:
        return refresh_id(self.provider_id, self.connection_id)


class RefreshStep(Message):
    connection_id: UUID
    known_version: int | None = None
    """The credential version whose age or refusal is the reason to look. A newer one has answered the question."""
    meaning: Meaning | None = None
    """Of the refusal that is to be confirmed: who would have to act."""


class Refresh(StrEnum):
    REFRESHED = "refreshed"
    ROTATED_MEANWHILE = "rotated_meanwhile"
    """Somebody else's refresh won: nothing is wrong."""
    REFUSED = "refused"
    """The provider calls the grant dead, or our registration wrong. To be confirmed."""
    UNCONFIRMED = "unconfirmed"
    """Refused, and yet the provider's own introspection says that the grant lives: nothing is demoted."""
    SUSPECT = "suspect"
    """Refused, as many others at the same provider at once: nobody is demoted, and operators are to look."""
    SET_ASIDE = "set_aside"
    """Refused while an outage of the provider is contained: not believed, and asked again when the shield lifts."""
    AMBIGUOUS = "ambiguous"
    """A rotation's answer was lost and the provider forgives no second try: the stored token is worth nothing."""
    OPERATOR_MUST_ACT = "operator_must_act"
    """Confirmed: our registration is refused, and the connection errored."""
    NOT_CONNECTED = "not_connected"
    """The status forbids it, or there is nothing to refresh with."""


class Refreshed(Message):
    refresh: Refresh
    version: int | None = None
    """The version that the answer is about."""
    why: str = ""
    detection_id: UUID | None = None
    """Set when the owner has to be asked, and the row that says why is committed."""
    meaning: Meaning | None = None
    """Of a refusal that is to be confirmed: who would have to act."""
    repaired: bool = False
    """The connection was blocked and works again: its re-consent lifecycle has to be told."""
    waits: bool = False
    """Nobody was asked yet: the detection waits until the platform may act by itself."""


CHUNK: Final = 50
"""Connections in one activity of a sweep."""


class SweepRequest(Message):
    """Refresh what is due at one provider."""

    provider_id: str
    lanes: int = 1
    """Chunks that are under way at the same time."""

    @property
    def key(self) -> str:
        return f"refresh:{self.provider_id}"


class ChunkStep(Message):
    provider_id: str
    most: int = CHUNK


class Chunk(Message):
    """What became of the connections of one activity, or of several."""

    taken: int = 0
    refreshed: int = 0
    left: int = 0
    """What could not be refreshed with the others, and goes on by itself."""
    held: int = 0
    """Refused as by the way of many others at this provider: kept as they are, for the operators to look at."""

    def __add__(self, other: "Chunk") -> "Chunk":
        return Chunk(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})

    @property
    def words(self) -> str:
        parts = [f"{self.refreshed:,} refreshed"]
        parts += [f"{self.left:,} go on by themselves"] if self.left else []
        parts += [f"{self.held:,} refused and held back"] if self.held else []
        return ", ".join(parts)


class Swept(Message):
    """The providers at which something was due, and how much, counted up to what keeps all lanes busy."""

    due: dict[str, int]
