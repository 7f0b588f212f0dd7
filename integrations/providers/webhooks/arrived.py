"""A webhook's request as it came, what it was found to be, and why it was refused."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from integrations.domain.webhook import Identity, Notice, Reaction, Reason

_LONGEST: Final = 4096
"""Characters of a header's value. No signature is longer."""


class RefusedError(Exception):
    """The sender did not show that it is the provider. Holds nothing of the request."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Arrived:
    method: str
    url: str
    """As the provider was told it: what some of them sign."""
    headers: tuple[tuple[bytes, bytes], ...]
    """As they came, names in lower case."""
    body: bytes

    def header(self, name: str) -> str | None:
        """The one value of a header. Raises RefusedError when it came twice, or holds what no signature does."""
        wanted = name.lower().encode("latin-1")
        found = [value for key, value in self.headers if key == wanted]
        if not found:
            return None
        if len(found) > 1:
            raise RefusedError(Reason.DOUBLED)
        if len(found[0]) > _LONGEST:
            raise RefusedError(Reason.MALFORMED)
        try:
            return found[0].decode("ascii").strip()
        except UnicodeDecodeError:
            raise RefusedError(Reason.MALFORMED) from None


@dataclass(frozen=True, slots=True)
class Told:
    """What a verified delivery says of itself, as its provider's entry reads it. Each is text that Postgres takes."""

    delivery_id: str
    identity: Identity
    event: str = ""
    resource: str = ""
    """Only where the provider's deliveries are coalesced."""
    account: str = ""
    sent_at: datetime | None = None
    reaction: Reaction = Reaction.EVENT
    notices: tuple[Notice, ...] = ()
    """All that it tells, the gravest first, where that is more than one thing; the first is told above."""
    occurred_at: datetime | None = None
    """When it happened, as the signed body says: an attempt of today may tell of yesterday."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """An answer to a provider that only asks whether we are who it was told: nothing is kept of that."""

    status: int
    body: bytes
    media_type: str = "text/plain; charset=utf-8"
