"""A connection's status: which there are, which lead to which, and what each leaves usable.

active ──▶ pending_reauth | needs_reconsent | errored | disconnected
pending_reauth ──▶ active | needs_reconsent | disconnected
needs_reconsent ──▶ active | pending_reauth | disconnected
errored ──▶ active | pending_reauth | disconnected
disconnected ──▶ active
"""

import re
from enum import StrEnum
from typing import Final
from uuid import UUID

from integrations.domain.errors import WrongUsageError

_OWNER: Final = re.compile(r"(user|org):([^\s\x00-\x1f]{1,200})")


class Status(StrEnum):
    ACTIVE = "active"
    PENDING_REAUTH = "pending_reauth"
    """The grant is dead; the owner must come back."""
    NEEDS_RECONSENT = "needs_reconsent"
    """The grant lives, but permissions are missing."""
    ERRORED = "errored"
    """Ours to fix: a wrong client secret, an unknown provider."""
    DISCONNECTED = "disconnected"
    """Not connected: never yet, given up, or by somebody's wish."""


BLOCKED: Final = frozenset({Status.PENDING_REAUTH, Status.NEEDS_RECONSENT})
"""Where an owner has to act: such a connection has an open task and a living lifecycle."""

_NEXT: Final[dict[Status, frozenset[Status]]] = {
    Status.ACTIVE: frozenset({Status.PENDING_REAUTH, Status.NEEDS_RECONSENT, Status.ERRORED, Status.DISCONNECTED}),
    Status.PENDING_REAUTH: frozenset({Status.ACTIVE, Status.NEEDS_RECONSENT, Status.DISCONNECTED}),
    Status.NEEDS_RECONSENT: frozenset({Status.ACTIVE, Status.PENDING_REAUTH, Status.DISCONNECTED}),
    Status.ERRORED: frozenset({Status.ACTIVE, Status.PENDING_REAUTH, Status.DISCONNECTED}),
    Status.DISCONNECTED: frozenset({Status.ACTIVE}),
}


def may_become(now: Status, then: Status) -> bool:
    return then in _NEXT[now]


def reauth_id(provider_id: str, connection_id: UUID) -> str:
    """The one open re-consent lifecycle of a connection."""
    return f"reauth:{provider_id}:{connection_id}"


def refresh_id(provider_id: str, connection_id: UUID) -> str:
    """The one open refresh of a connection."""
    return f"refresh:{provider_id}:{connection_id}"


def connection_of(workflow_id: str) -> UUID | None:
    """The connection whose lifecycle has this id; None for an id of another form."""
    try:
        return UUID(workflow_id.rpartition(":")[2])
    except ValueError:
        return None


def owner_of(owner: str) -> tuple[str, str]:
    """`org:acme` in its two parts. Raises WrongUsageError for what is no owner."""
    match = _OWNER.fullmatch(owner)
    if match is None:
        raise WrongUsageError(
            f"{owner[:80]!r} is not an owner: write user:ID or org:ID, for example org:acme; an ID has at most 200 "
            "characters, and no spaces"
        )
    return match[1], match[2]


def masked(name: str | None) -> str:
    """An account's name for pages, events and mails: enough for its owner to know it, too little for anybody else.

    `ada@acme.example` becomes `a••@acme.example`, `Ada Lovelace` becomes `A••`.
    """
    if not name:
        return "unknown"
    local, at, host = name.partition("@")
    return f"{local[:1]}••{at}{host}"
