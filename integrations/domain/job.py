"""One capability call for a host application: gated, and done once."""

import hashlib
import json
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import Field

from integrations.domain.gate import Decision
from integrations.domain.message import Message
from integrations.domain.refresh import Refresh, Refreshed
from integrations.domain.verdict import Meaning

_NEWER: Final = frozenset({Refresh.REFRESHED, Refresh.ROTATED_MEANWHILE})

_MEANINGS: Final = {
    Refresh.OPERATOR_MUST_ACT: Meaning.OPERATOR_MUST_ACT,
    # Of a surge no owner is asked either: operators look first.
    Refresh.SUSPECT: Meaning.OPERATOR_MUST_ACT,
    Refresh.SET_ASIDE: Meaning.OUTAGE,
}
"""Of a refresh that did not help, where that says more than the refused token."""
PATIENCE: Final = timedelta(hours=1)
"""For which a job waits for its provider, unless somebody says otherwise. Then it is parked."""
PATIENCE_AGAIN: Final = timedelta(minutes=10)
"""At least, of a job that was parked and goes on."""


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
    patience: timedelta | None = Field(default=None, gt=timedelta(0))
    """For which it waits for its provider before it is parked. None: as long as it takes."""

    @property
    def key(self) -> str:
        """The connection is part of it: two tenants may choose the same key and must not get each other's answer."""
        return f"job:{self.provider_id}:{self.connection_id}:{self.idempotency_key}"

    @property
    def digest(self) -> str:
        """Of the payload as it is sent, whatever the order of its names."""
        sent = json.loads(self.model_dump_json(include={"payload"}))
        return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()

    def differs_from(self, earlier: "JobRequest") -> str:
        """What an earlier request of the same key asked for, and this one does not. Empty: it is the same request."""
        differences = []
        if self.capability != earlier.capability:
            differences.append(f"it was for {earlier.capability}, and now is for {self.capability}")
        if self.digest != earlier.digest:
            # A few characters tell two payloads apart, and say nothing of what is in them.
            differences.append(f"its payload had the digest {earlier.digest[:12]}…, and now has {self.digest[:12]}…")
        return "; ".join(differences)


class JobResult(Message):
    decision: Decision
    meaning: Meaning | None = None
    """None when the gate said no: nothing was sent."""
    because: str = ""
    status: int | None = None
    body: Any = None
    """The answer's JSON, cut to what a history should hold."""
    refused_version: int | None = None
    """The credential version whose access token was not accepted, where a refresh may help or tell more."""
    refresh: Refresh | None = None
    """How the refresh ended that a refused access token asked for. None: none was needed."""

    @property
    def done(self) -> bool:
        return self.meaning is Meaning.OK

    @property
    def outcome(self) -> str:
        """How it ended, in a word: `done`, `blocked` by the gate, or what the answer means."""
        return "done" if self.done else self.meaning or "blocked"


def has_newer_token(refused: JobResult, refreshed: Refreshed) -> bool:
    """Is there another access token to call with than the refused one?"""
    return refreshed.refresh in _NEWER and (refreshed.version or 0) > (refused.refused_version or 0)


def was_about_an_older(refused: JobResult, refreshed: Refreshed) -> bool:
    """Was it a refresh that was under way already, for the sake of a token before the refused one?"""
    return refreshed.refresh in _NEWER and not has_newer_token(refused, refreshed)


def not_renewed(refused: JobResult, refreshed: Refreshed) -> JobResult:
    """How a job ends whose token was refused, and whose connection got no other one."""
    asked = "; the owner is asked to consent again" if refreshed.detection_id and not refreshed.waits else ""
    asked += "; nothing is done about it by itself just now: runbook automation" if refreshed.waits else ""
    return refused.model_copy(
        update={
            "meaning": _MEANINGS.get(refreshed.refresh, refused.meaning),
            "because": f"{refused.because}, and no refresh helped: {refreshed.why}{asked}",
            "refresh": refreshed.refresh,
        }
    )


def called_again(again: JobResult, refreshed: Refreshed) -> JobResult:
    """How a job ends that was called again with another token. Refused with that too, it says so."""
    refused = again.refused_version is not None
    return again.model_copy(
        update={
            "because": f"{again.because}, not even after a refresh" if refused else again.because,
            "refresh": refreshed.refresh,
        }
    )
