"""One capability call for a host application: gated, and done once."""

from typing import Any
from uuid import UUID

from pydantic import Field

from integrations.domain.gate import Decision
from integrations.domain.message import Message
from integrations.domain.verdict import Meaning


class JobRequest(Message):
    connection_id: UUID
    provider_id: str
    tenant: str
    capability: str
    idempotency_key: str = Field(pattern=r"^[\x21-\x7e]{1,150}$")
    """Chosen by the caller: visible ASCII. It names the workflow, whose id may have 255, and travels in a header."""
    payload: dict[str, Any] = Field(default_factory=dict)
    """The body of the call. It stands in the history: no secrets."""
    by: str
    reason: str

    @property
    def key(self) -> str:
        """The connection is part of it: two tenants may choose the same key and must not get each other's answer."""
        return f"job:{self.provider_id}:{self.connection_id}:{self.idempotency_key}"


class JobResult(Message):
    decision: Decision
    meaning: Meaning | None = None
    """None when the gate said no: nothing was sent."""
    because: str = ""
    status: int | None = None
    body: Any = None
    """The answer's JSON, cut to what a history should hold."""

    @property
    def done(self) -> bool:
        return self.meaning is Meaning.OK
