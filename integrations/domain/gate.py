"""May this call go? Status x access x grants, as a table that fits on a page.

| status          | grants there | read, grants gone | write, grants gone |
| --------------- | ------------ | ----------------- | ------------------ |
| active          | allowed      | blocked           | blocked            |
| pending_reauth  | allowed      | degraded          | blocked            |
| needs_reconsent | allowed      | blocked           | blocked            |
| errored         | degraded     | degraded          | blocked            |
| disconnected    | blocked      | blocked           | blocked            |

`pending_reauth` holds no grants at all, so only what needs none is allowed there; its reads may go as long as the
access token answers, and say that they are degraded. A missing optional grant degrades and never blocks.
"""

from enum import StrEnum

from integrations.domain.connection import Status
from integrations.domain.message import Message


class Access(StrEnum):
    READ = "read"
    WRITE = "write"


class Purpose(StrEnum):
    """Why a provider is called. Only `use` is subject to the connection's status: the others repair it."""

    USE = "use"
    PROBE = "probe"
    REFRESH = "refresh"
    EXCHANGE = "exchange"
    REVOKE = "revoke"


class Answer(StrEnum):
    ALLOWED = "allowed"
    DEGRADED = "degraded"
    BLOCKED = "blocked"


class Decision(Message):
    answer: Answer
    missing: tuple[str, ...] = ()
    """Every grant the capability wants and the connection lacks, required ones first."""
    reason: str = ""

    @property
    def may_go(self) -> bool:
        return self.answer is not Answer.BLOCKED


def decide(
    purpose: Purpose,
    status: Status,
    access: Access,
    *,
    requires: frozenset[str],
    optional: frozenset[str],
    granted: frozenset[str],
) -> Decision:
    """Answer for one call. Pure; the table above is the whole of it."""
    required_gone = sorted(requires - granted)
    missing = (*required_gone, *sorted(optional - granted))
    if purpose is not Purpose.USE:
        return Decision(answer=Answer.ALLOWED, missing=missing, reason=f"{purpose} is not subject to status")
    answer = _by_table(status, access, grants_gone=bool(required_gone))
    if answer is Answer.ALLOWED and missing:
        answer = Answer.DEGRADED
    return Decision(answer=answer, missing=missing, reason=_why(answer, status, missing))


def _by_table(status: Status, access: Access, *, grants_gone: bool) -> Answer:
    if status is Status.DISCONNECTED:
        return Answer.BLOCKED
    if not grants_gone:
        return Answer.DEGRADED if status is Status.ERRORED else Answer.ALLOWED
    if access is Access.READ and status in {Status.PENDING_REAUTH, Status.ERRORED}:
        return Answer.DEGRADED
    return Answer.BLOCKED


def _why(answer: Answer, status: Status, missing: tuple[str, ...]) -> str:
    if answer is Answer.ALLOWED:
        return f"the connection is {status} and every grant is there"
    gone = f"missing grants: {', '.join(missing)}" if missing else "no grant is missing"
    return f"the connection is {status}; {gone}"
