"""What a provider's answer means, and who must act. Pure: status, error code and transport trouble go in.

The order of the rules is their meaning. A status of 500 and above comes first: whatever its body says, a provider in
trouble has said nothing about a grant. An error inside a 200 is an error all the same.
"""

import re
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from integrations.domain.message import Message

_OWNER_ERRORS: Final = frozenset({"invalid_grant"})  # RFC 6749 section 5.2
_OPERATOR_ERRORS: Final = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request"}
)  # RFC 6749 section 5.2: each of them is about how we ask, not about the owner's grant
_BUSY_ERRORS: Final = frozenset({"temporarily_unavailable", "slow_down", "server_error"})  # RFC 6749 section 4.1.2.1
_TOO_MANY: Final = 429
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_TIMEOUT: Final = 408
_SERVER_ERROR: Final = 500
IN_WORDS: Final = "error_in_words"
_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
LONGEST_WAIT: Final = timedelta(hours=1)
"""A Retry-After beyond this is not believed: a provider that says "in a year" is asked again in an hour."""


class Meaning(StrEnum):
    OK = "ok"
    RETRY = "retry"
    THROTTLED = "throttled"
    OUTAGE = "outage"
    OWNER_MUST_ACT = "owner_must_act"
    OPERATOR_MUST_ACT = "operator_must_act"
    UNKNOWN = "unknown"


class Trouble(StrEnum):
    """What went wrong below HTTP. The difference that matters: may the request have arrived?"""

    NOT_SENT = "not_sent"
    LOST = "lost"
    """Sent, and no complete answer came back: whether it took effect is unknown."""


class Heard(Message):
    """A provider's answer, stripped of everything that could be a secret."""

    status: int | None = None
    error: str | None = None
    retry_after: timedelta | None = None
    trouble: Trouble | None = None
    trouble_kind: str | None = None
    """The transport error's class, for a reader: ConnectTimeout, ReadError."""

    @property
    def words(self) -> str:
        """For people: `400 invalid_grant`, `no answer (ReadTimeout)`."""
        if self.status is None:
            return f"no answer ({self.trouble_kind})"
        return f"{self.status} {self.error}" if self.error else f"{self.status}"


class Verdict(Message):
    meaning: Meaning
    because: str
    """The rule that matched, in plain words."""
    after: timedelta | None = None

    @property
    def is_transient(self) -> bool:
        """May the same call succeed later, without anybody acting?"""
        return self.meaning in {Meaning.OUTAGE, Meaning.RETRY, Meaning.THROTTLED}


def judge_token(heard: Heard, *, terminal_errors: frozenset[str] = frozenset()) -> Verdict:
    """Judge an answer of the token endpoint: only an OAuth error says something about a grant.

    A bare 401 or 403 comes from a wall in front of it, such as a firewall (RFC 6749 section 5.2 has none).
    """
    verdict = judge(heard, terminal_errors=terminal_errors)
    if verdict.meaning is Meaning.OWNER_MUST_ACT and heard.error not in _OWNER_ERRORS | terminal_errors:
        because = f"{heard.words}: no OAuth error, so nothing is said about the grant"
        return Verdict(meaning=Meaning.UNKNOWN, because=because)
    return verdict


def judge(heard: Heard, *, terminal_errors: frozenset[str] = frozenset()) -> Verdict:
    """Judge one answer of an API.

    `terminal_errors` are the provider's own words for a dead grant, beside RFC 6749's.
    """
    if heard.status is None:
        return Verdict(meaning=Meaning.OUTAGE, because=f"no answer from the provider ({heard.trouble_kind})")
    if heard.status >= _SERVER_ERROR:
        because = f"{heard.status}: the provider is in trouble and has said nothing about the grant"
        return Verdict(meaning=Meaning.OUTAGE, because=because, after=heard.retry_after)
    if heard.status == _TOO_MANY:
        return Verdict(meaning=Meaning.THROTTLED, because="429: too many calls", after=heard.retry_after)
    if heard.error:
        return _by_error(heard, heard.error, terminal_errors)
    return _by_status(heard.status)


def _by_error(heard: Heard, error: str, terminal_errors: frozenset[str]) -> Verdict:
    if error in _OWNER_ERRORS | terminal_errors:
        return Verdict(meaning=Meaning.OWNER_MUST_ACT, because=f"{error}: the grant is dead or was never valid")
    if error in _OPERATOR_ERRORS:
        return Verdict(meaning=Meaning.OPERATOR_MUST_ACT, because=f"{error}: our registration or request is wrong")
    if error in _BUSY_ERRORS:
        return Verdict(meaning=Meaning.RETRY, because=f"{error}: the provider is busy", after=heard.retry_after)
    if heard.status in {_UNAUTHORIZED, _FORBIDDEN}:
        return _by_status(heard.status)
    return Verdict(meaning=Meaning.UNKNOWN, because=f"{heard.words}: an error that no rule knows")


def _by_status(status: int) -> Verdict:
    if 200 <= status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 section 15.3
        return Verdict(meaning=Meaning.OK, because=f"{status}")
    if status == _UNAUTHORIZED:
        return Verdict(meaning=Meaning.OWNER_MUST_ACT, because="401: the access token is not accepted")
    if status == _FORBIDDEN:
        return Verdict(meaning=Meaning.OWNER_MUST_ACT, because="403: a permission is missing")
    if status == _TIMEOUT:
        return Verdict(meaning=Meaning.RETRY, because="408: the provider waited too long for us")
    return Verdict(meaning=Meaning.UNKNOWN, because=f"{status}: no rule knows this status here")


def error_code(body: object) -> str | None:
    """The error code of a parsed body. `IN_WORDS` stands for one that is no code: it could hold what must stay here."""
    value = body.get("error") if isinstance(body, dict) else None
    if not value:
        return None
    return value if isinstance(value, str) and _ERROR_CODE.fullmatch(value) else IN_WORDS


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Retry-After in either form (RFC 9110 section 10.2.3), never negative and never beyond `LONGEST_WAIT`."""
    if not header:
        return None
    if header.isascii() and header.strip().isdigit():
        return min(timedelta(seconds=int(header.strip()[:9])), LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(header)
        # Without a zone it is no HTTP date, and cannot be subtracted.
        return min(max(until - now, timedelta(0)), LONGEST_WAIT)
    except (ValueError, OverflowError, TypeError):
        return None
