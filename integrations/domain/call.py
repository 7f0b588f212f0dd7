"""A call of a provider, as it is remembered: on whose behalf, and what came of it. Never what was in it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from integrations.domain.gate import Purpose
from integrations.domain.message import Message
from integrations.domain.verdict import Meaning

KEPT: Final = timedelta(days=7)
"""How long calls are remembered."""
TAIL: Final = 20
"""Failing calls that are kept of those that a provider's calls end in."""


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a provider is called."""

    tenant: str
    connection_id: UUID
    purpose: Purpose
    attempt: int
    """Temporal's: 1 for the first."""


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One request and what its answer means. A plain object: it is made beside every call."""

    caller: Caller
    provider_id: str
    endpoint: str
    """`token`, `introspect`, `revoke`, `identity`, or the capability that was called or probed. Never an address."""
    outcome: Meaning
    rule: str
    """The row of the verdict's table that matched."""
    status: int | None
    """None: no answer came."""
    duration_ms: int
    at: datetime
    """When its outcome was known, by this process's clock."""


class Count(Message):
    """How many calls went one way."""

    provider_id: str
    endpoint: str
    tenant: str
    outcome: Meaning
    calls: int
