"""What a provider's answer means, and who must act: the first rule of a table that matches says it.

The order of the rules is their meaning. What happened below HTTP comes first, then a status of 500 and above: whatever
its body says, a provider in trouble has said nothing about a grant. An error inside a 200 is an error all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from integrations.domain.message import Message

_TOO_MANY: Final = 429
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_ACCEPTED_LATER: Final = frozenset({408, 425})
"""Request Timeout (RFC 9110 section 15.5.9) and Too Early (RFC 8470 section 5.2): the same request may be repeated."""
_NOT_HERE: Final = frozenset({404, 405, 410})
_DEAD: Final = frozenset({"invalid_grant"})  # RFC 6749 section 5.2
_OUR_REGISTRATION: Final = frozenset({"invalid_client", "unauthorized_client"})  # RFC 6749 section 5.2
_OUR_REQUEST: Final = frozenset(
    {"invalid_request", "invalid_scope", "unsupported_grant_type", "unsupported_response_type"}
    | {"unsupported_token_type"}
)  # RFC 6749 sections 4.1.2.1 and 5.2, RFC 7009 section 2.2.1
_BUSY: Final = frozenset({"temporarily_unavailable", "server_error", "slow_down"})  # RFC 6749 4.1.2.1, RFC 8628 3.5
_NO_TOKEN: Final = frozenset({"invalid_token"})  # RFC 6750 section 3.1
_RIGHT_MISSING: Final = "forbidden"
_NO_SCOPE: Final = frozenset({"insufficient_scope"})  # RFC 6750 section 3.1


class Meaning(StrEnum):
    OK = "ok"
    RETRY = "retry"
    THROTTLED = "throttled"
    OUTAGE = "outage"
    OWNER_MUST_ACT = "owner_must_act"
    OPERATOR_MUST_ACT = "operator_must_act"
    UNKNOWN = "unknown"


TERMINAL: Final = frozenset({Meaning.OWNER_MUST_ACT, Meaning.OPERATOR_MUST_ACT})
"""Of a token endpoint: the same request will never succeed, until somebody acts."""
TRANSIENT: Final = frozenset({Meaning.OUTAGE, Meaning.RETRY, Meaning.THROTTLED})
"""Nobody has to act: the provider is in trouble, or asks for time. Everything else is an answer."""


class Endpoint(StrEnum):
    """Who answered. Only the token endpoint's OAuth errors say something about a grant."""

    TOKEN = "token"  # noqa: S105 - an endpoint's name
    API = "api"


class Trouble(StrEnum):
    """What went wrong below HTTP. The difference that matters: may the request have arrived?"""

    NOT_SENT = "not_sent"
    LOST = "lost"
    """Sent, and no complete answer came back: whether it took effect is unknown."""
    OURS = "ours"
    """The request could not even be built: nothing was sent, and nothing ever will be."""


class Content(StrEnum):
    """What the body was, as far as a rule needs to know."""

    EMPTY = "empty"
    JSON = "json"
    HTML = "html"
    """A page for people: a proxy, a firewall or a login page answered in the API's place."""
    OTHER = "other"
    """Neither: cut JSON, plain text, a file."""


class Heard(Message):
    """A provider's answer, stripped of everything that could be a secret."""

    status: int | None = None
    error: str | None = None
    retry_after: timedelta | None = None
    exhausted: bool = False
    """The provider's own headers say that the quota of calls is used up."""
    asks_to_wait: bool = False
    """The provider's own words say that it is only a matter of time."""
    content: Content | None = None
    expects_json: bool = True
    trouble: Trouble | None = None
    trouble_kind: str | None = None
    """What it was, for a reader: `ConnectTimeout`, `DnsFailure`, `ReadError`."""

    @property
    def words(self) -> str:
        """For people: `400 invalid_grant`, `no answer (ReadTimeout)`."""
        if self.status is None:
            return f"no answer ({self.trouble_kind})"
        return f"{self.status} {self.error}" if self.error else f"{self.status}"

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110 section 15.3


class Vocabulary(Message):
    """A provider's own error codes, beside those of the RFCs."""

    none: frozenset[str] = frozenset()
    """Codes that stand for success."""
    terminal: frozenset[str] = frozenset()
    """The grant is dead."""
    scope: frozenset[str] = frozenset()
    """A permission is missing."""
    token: frozenset[str] = frozenset()
    """The access token is not accepted: a refresh may help."""
    operator: frozenset[str] = frozenset()
    """Our registration or request is wrong."""
    throttled: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    wait_statuses: frozenset[int] = frozenset()
    """Statuses of the provider's own making that ask to come back."""


class Verdict(Message):
    meaning: Meaning
    because: str
    """What was heard and what follows from it, in plain words."""
    after: timedelta | None = None
    """How long the provider asks us to wait."""
    rule: str = ""
    """The row of the table that matched."""
    todo: str = ""
    """Who must act, and how."""

    @property
    def is_transient(self) -> bool:
        """May the same call succeed later, without anybody acting?"""
        return self.meaning in TRANSIENT

    @property
    def refuses_token(self) -> bool:
        """Of an API's answer: may a refresh help, or say what has become of the grant?

        A bare 403 is none: it accepts the token and refuses the right (RFC 9110 section 15.5.4). Refreshed for each of
        these, a connection would use up the few tokens an hour that some providers give.
        """
        return self.meaning is Meaning.OWNER_MUST_ACT and self.rule != _RIGHT_MISSING


@dataclass(frozen=True, slots=True)
class _Case:
    heard: Heard
    words: Vocabulary
    endpoint: Endpoint

    @property
    def error(self) -> str:
        """The code, or nothing: also where the provider's word for "no error" stands."""
        return "" if self.heard.error in self.words.none else self.heard.error or ""

    @property
    def status(self) -> int:
        return self.heard.status or 0

    @property
    def asks_api(self) -> bool:
        return self.endpoint is Endpoint.API

    @property
    def page(self) -> bool:
        return self.heard.expects_json and self.heard.content is Content.HTML

    @property
    def unreadable(self) -> bool:
        """Of an API, no body at all is a fine answer; of a token endpoint it is none."""
        empty = self.heard.content is Content.EMPTY and not self.asks_api
        return self.heard.expects_json and (empty or self.heard.content is Content.OTHER)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `because` may use {words}, {error}, {status} and {kind} of what was heard."""

    name: str
    meaning: Meaning
    matches: Callable[[_Case], bool]
    because: str
    todo: str


_WAIT: Final = "Nobody: the call is repeated by itself."
_PROVIDER: Final = "The provider: calls wait and are repeated. If it lasts, see its status page."
_OWNER: Final = "The owner: consent again by the invitation that the re-consent lifecycle sends."
_REGISTRATION: Final = "An operator: correct the provider's client id and secret, or its registration of our client."
_LOOK: Final = "An operator, if it stays: look it up at the provider, and teach its catalog entry what it means."
_GRANT_UNTOUCHED: Final = "and nothing is said about the grant"

RULES: Final = (
    Rule(
        "ours-unsendable",
        Meaning.OPERATOR_MUST_ACT,
        lambda c: c.heard.trouble is Trouble.OURS,
        "the request could not be built ({kind})",
        "An operator: correct the address in the provider's catalog entry.",
    ),
    Rule(
        "dns-failure",
        Meaning.OUTAGE,
        lambda c: c.heard.status is None and c.heard.trouble_kind == "DnsFailure",
        "the provider's name does not resolve, nothing was sent",
        "The provider, or whoever runs our DNS: calls wait and are repeated. Check the address in the catalog.",
    ),
    Rule(
        "tls-failure",
        Meaning.OUTAGE,
        lambda c: c.heard.status is None and c.heard.trouble_kind == "TlsFailure",
        "no trusted TLS connection, nothing was sent",
        "The provider, or an operator: an expired certificate there, a wrong clock or a missing root certificate here.",
    ),
    Rule(
        "not-sent",
        Meaning.OUTAGE,
        lambda c: c.heard.status is None and c.heard.trouble is Trouble.NOT_SENT,
        "no connection to the provider ({kind}), nothing was sent",
        _PROVIDER,
    ),
    Rule(
        "answer-lost",
        Meaning.OUTAGE,
        lambda c: c.heard.status is None,
        "no answer from the provider ({kind}): whether the call took effect is unknown",
        _PROVIDER,
    ),
    Rule(
        "server-error",
        Meaning.OUTAGE,
        lambda c: c.status >= 500,  # noqa: PLR2004 - RFC 9110 section 15.6
        f"{{words}}: the provider is in trouble, {_GRANT_UNTOUCHED}",
        _PROVIDER,
    ),
    Rule("too-many-calls", Meaning.THROTTLED, lambda c: c.status == _TOO_MANY, "429: too many calls", _WAIT),
    Rule(
        "throttled-by-status",
        Meaning.THROTTLED,
        lambda c: c.status in c.words.wait_statuses,
        "{status}: the provider's own status for coming back later",
        _WAIT,
    ),
    Rule(
        "throttled-by-word",
        Meaning.THROTTLED,
        lambda c: c.error in c.words.throttled,
        "{words}: the provider's word for too many calls",
        _WAIT,
    ),
    Rule(
        "quota-used-up",
        Meaning.THROTTLED,
        lambda c: c.status == _FORBIDDEN and (c.heard.exhausted or c.heard.retry_after is not None),
        "{words} with a quota that is used up, or a time to come back: too many calls",
        _WAIT,
    ),
    Rule(
        "busy-in-words",
        Meaning.RETRY,
        lambda c: c.heard.asks_to_wait,
        "{words}, and the text beside it only asks to come back",
        _WAIT,
    ),
    Rule(
        "grant-dead",
        Meaning.OWNER_MUST_ACT,
        lambda c: c.error in _DEAD | c.words.terminal,
        "{error}: the grant is dead or was never valid",
        f"{_OWNER} Not believed before it is confirmed.",
    ),
    Rule(
        "registration-wrong",
        Meaning.OPERATOR_MUST_ACT,
        lambda c: c.error in _OUR_REGISTRATION | c.words.operator,
        "{error}: our registration or request is wrong",
        f"{_REGISTRATION} No owner can do anything about it.",
    ),
    Rule(
        "request-wrong",
        Meaning.OPERATOR_MUST_ACT,
        lambda c: c.error in _OUR_REQUEST,
        "{error}: our registration or request is wrong",
        "An operator: correct the provider's catalog entry. No owner can do anything about it.",
    ),
    Rule(
        "provider-busy",
        Meaning.RETRY,
        lambda c: c.error in _BUSY | c.words.busy,
        "{error}: the provider is busy",
        _WAIT,
    ),
    Rule(
        "page-for-people",
        Meaning.OUTAGE,
        lambda c: c.page and not c.error and c.status not in _NOT_HERE,
        f"{{status}} with a page for people in place of the API's answer, {_GRANT_UNTOUCHED}",
        "The provider, or whoever runs the proxy or firewall that answered: calls wait and are repeated.",
    ),
    Rule(
        "permission-missing",
        Meaning.OWNER_MUST_ACT,
        lambda c: c.asks_api and c.error in _NO_SCOPE | c.words.scope,
        "{error}: a permission is missing",
        "The owner: consent again, with the permission that is missing.",
    ),
    Rule(
        "token-not-accepted",
        Meaning.OWNER_MUST_ACT,
        lambda c: c.asks_api and (c.status == _UNAUTHORIZED or c.error in _NO_TOKEN | c.words.token),
        "{words}: the access token is not accepted",
        "A refresh first: `runbook connections refresh`. The owner, if that is refused too.",
    ),
    Rule(
        _RIGHT_MISSING,
        Meaning.OWNER_MUST_ACT,
        lambda c: c.asks_api and c.status == _FORBIDDEN,
        "{words}: a permission is missing",
        "The owner: consent again, or be given the right at the provider.",
    ),
    Rule(
        "wall",
        Meaning.UNKNOWN,
        lambda c: c.status in {_UNAUTHORIZED, _FORBIDDEN},
        f"{{words}}: no OAuth error of a token endpoint, as of a firewall before it, {_GRANT_UNTOUCHED}",
        _LOOK,
    ),
    Rule(
        "come-back-later",
        Meaning.RETRY,
        lambda c: c.status in _ACCEPTED_LATER,
        "{status}: the same request may be repeated",
        _WAIT,
    ),
    Rule(
        "unreadable-success",
        Meaning.OUTAGE,
        lambda c: c.heard.succeeded and c.unreadable,
        "{status} with a body that is no JSON: whether the call took effect is unknown",
        _PROVIDER,
    ),
    Rule("success", Meaning.OK, lambda c: c.heard.succeeded and not c.error, "{status}", "Nobody."),
    Rule("error-unknown", Meaning.UNKNOWN, lambda c: bool(c.error), "{words}: an error that no rule knows", _LOOK),
    Rule(
        "redirected",
        Meaning.UNKNOWN,
        lambda c: 300 <= c.status < 400,  # noqa: PLR2004 - RFC 9110 section 15.4
        "{status}: the provider points elsewhere, and tokens do not follow",
        "An operator, if it stays: correct the address in the provider's catalog entry.",
    ),
    Rule(
        "not-here",
        Meaning.UNKNOWN,
        lambda c: c.status in _NOT_HERE,
        "{status}: nothing is at this address, or not any more",
        "An operator, if it stays: correct the address in the provider's catalog entry, or what was asked for.",
    ),
    Rule("status-unknown", Meaning.UNKNOWN, lambda _: True, "{status}: no rule knows this status here", _LOOK),
)


def judge(heard: Heard, words: Vocabulary | None = None, endpoint: Endpoint = Endpoint.API) -> Verdict:
    """Judge one answer. Pure: the first rule that matches."""
    case = _Case(heard, words or Vocabulary(), endpoint)
    rule = next(rule for rule in RULES if rule.matches(case))
    told = {"words": heard.words, "error": case.error, "status": heard.status, "kind": heard.trouble_kind}
    return Verdict(
        meaning=rule.meaning,
        because=rule.because.format(**told),
        # Whoever asks for time while being fine asks it of somebody else's next call, not of this one.
        after=heard.retry_after if rule.meaning in _WAITING else None,
        rule=rule.name,
        todo=rule.todo,
    )


_WAITING: Final = frozenset({Meaning.OUTAGE, Meaning.RETRY, Meaning.THROTTLED, Meaning.UNKNOWN})


def row_of(rule: str) -> tuple[int, int] | None:
    """Where a rule stands in the table, and how many there are. None for one that is no row, or was one once."""
    names = [each.name for each in RULES]
    return (names.index(rule) + 1, len(names)) if rule in names else None
