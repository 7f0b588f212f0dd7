"""Refreshing one connection: its messages, and what a confirmed refusal means."""

from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from integrations.domain.message import Message

CONFIRM_AFTER: Final = timedelta(seconds=10)
"""Between a refusal and the second look that may call the grant dead."""


class RefreshRequest(Message):
    """Refresh one connection once, whatever its token's age."""

    connection_id: UUID
    provider_id: str
    tenant: str
    by: str
    reason: str
    confirm_after: timedelta = CONFIRM_AFTER
    known_version: int | None = None
    """The credential version that is the reason. A newer one has answered it already, and is left as it is."""

    @property
    def key(self) -> str:
        return f"refresh:{self.provider_id}:{self.connection_id}"


class RefreshStep(Message):
    connection_id: UUID
    known_version: int | None = None
    """The credential version whose age or refusal is the reason to look. A newer one has answered the question."""


class Refresh(StrEnum):
    REFRESHED = "refreshed"
    ROTATED_MEANWHILE = "rotated_meanwhile"
    """Somebody else's refresh won: nothing is wrong."""
    REFUSED = "refused"
    """The provider calls the grant dead. To be confirmed."""
    UNCONFIRMED = "unconfirmed"
    """Refused, and yet the provider's own introspection says that the grant lives: nothing is demoted."""
    AMBIGUOUS = "ambiguous"
    """A rotation's answer was lost and the provider forgives no second try: the stored token is worth nothing."""
    OPERATOR_MUST_ACT = "operator_must_act"
    NOT_CONNECTED = "not_connected"
    """The status forbids it, or there is nothing to refresh with."""


class Refreshed(Message):
    refresh: Refresh
    version: int | None = None
    """The version that the answer is about."""
    why: str = ""
    detection_id: UUID | None = None
    """Set when the owner has to be asked, and the row that says why is committed."""
    repaired: bool = False
    """The connection was blocked and works again: its re-consent lifecycle has to be told."""
