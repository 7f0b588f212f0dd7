"""What can be said of an entry without asking anybody: facts that contradict each other, or that nobody can use."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from integrations.domain.answer import hear
from integrations.domain.verdict import Endpoint, Meaning, judge
from integrations.providers.entry import Call, Capability, Provider
from starters.contract.dialect import needs
from starters.contract.outcome import Check, State, length

_ASKS: Final = frozenset({"count", "describe", "graphql", "info", "list", "lookup", "query", "read", "search"})
"""Words of an address that some vendors only take a POST for, and that change nothing."""
_HEADED: Final = frozenset({"hmac-sha256", "stripe", "slack", "google-channel-token", "hubspot-v3"})
"""Schemes whose signature or token comes in a header that the entry has to name."""
_PREFIXED: Final = frozenset({"hmac-sha256", "slack", "stripe"})
_WORDS: Final = (
    ("terminal_errors", Meaning.OWNER_MUST_ACT, Endpoint.TOKEN),
    ("errors.operator", Meaning.OPERATOR_MUST_ACT, Endpoint.TOKEN),
    ("errors.scope", Meaning.OWNER_MUST_ACT, Endpoint.API),
    ("errors.token", Meaning.OWNER_MUST_ACT, Endpoint.API),
    ("errors.throttled", Meaning.THROTTLED, Endpoint.API),
    ("errors.busy", Meaning.RETRY, Endpoint.API),
    ("errors.none", Meaning.OK, Endpoint.API),
)
_STANDARD: Final = (("invalid_grant", Meaning.OWNER_MUST_ACT), ("invalid_client", Meaning.OPERATOR_MUST_ACT))


def facts(entry: Provider) -> Iterator[Check]:
    """A check for each kind of contradiction."""
    for name, expected, found in (
        ("words", "each error code has the one meaning under which it is listed", _words(entry)),
        ("scopes", "each scope can be asked for, and is wanted by somebody", _scopes(entry)),
        ("probes", "a probe changes nothing", _probes(entry)),
        ("reach", "one capability's grants are enough to know whose account it is", _reach(entry)),
        ("times", "the times fit together", _times(entry)),
        ("variables", "each variable completes something", _variables(entry)),
        ("webhook", "the section is complete for its scheme", _webhook(entry)),
    ):
        wrong = list(found)
        heard = "; ".join(f"{key} {said}" for key, said in wrong)
        keys = tuple(dict.fromkeys(key for key, _ in wrong))
        state = State.FAILED if wrong else State.PASSED
        yield Check(name=name, state=state, expected=expected, heard=heard or "nothing against it", correct=keys)


Found = Iterator[tuple[str, str]]


def _words(entry: Provider) -> Found:
    listed = {
        "terminal_errors": entry.terminal_errors,
        **{f"errors.{name}": codes for name, codes in entry.errors.model_dump().items()},
    }
    for key, wanted, endpoint in _WORDS:
        for code in sorted(listed[key]):
            if (meaning := _heard(entry, code, endpoint)) is not wanted:
                yield key, f"lists {code!r}, which means {meaning} all the same"
    for code, wanted in _STANDARD:
        if (meaning := _heard(entry, code, Endpoint.TOKEN)) is not wanted:
            yield "errors", f"make {code!r} mean {meaning}"


def _heard(entry: Provider, code: str, endpoint: Endpoint) -> Meaning:
    """The verdict on a code at the place that is looked at last, inside a 200: only the code can say what it means."""
    heard, _ = hear(200, {}, b'{"error": "%s"}' % code.encode(), entry.reading, now=datetime.now(UTC))
    return judge(heard, entry.vocabulary, endpoint).meaning


def _scopes(entry: Provider) -> Found:
    asked = [*entry.always_ask, *entry.asked_grants]
    for scope in sorted({scope for scope in asked if entry.scope_separator in scope or re.search(r"\s", scope)}):
        yield "scope_separator", f"is a part of the scope {scope!r}"
    for scope in sorted(set(entry.always_ask) & set(entry.asked_grants)):
        yield "always_ask", f"has {scope!r}, which a capability wants: its absence would mean nothing"
    for scope, more in entry.implied.items():
        if scope not in asked:
            yield f"implied.{scope}", "is asked for by nobody"
        if not more & set(entry.asked_grants):
            yield f"implied.{scope}", "brings along what no capability wants"
    for name, capability in entry.capabilities.items():
        for scope in sorted(capability.optional & capability.requires):
            yield f'capabilities."{name}".optional', f"has {scope!r}, which is required"


def _probes(entry: Provider) -> Found:
    for name, capability in entry.capabilities.items():
        if not _changes_nothing(capability.probe):
            yield f'capabilities."{name}".probe', f"sends {capability.probe.method}, which may change something"


def _changes_nothing(call: Call) -> bool:
    return call.method == "GET" or (call.method == "POST" and bool(_ASKS & set(re.split(r"[^a-z]+", call.url.lower()))))


def _reach(entry: Provider) -> Found:
    call = Call(method=entry.identity.method, url=entry.identity.url)
    opening = needs(entry, call)
    for name, capability in entry.capabilities.items():
        have = _given(entry, capability)
        if opening and not any(set(scopes) <= have for scopes in opening):
            yield "identity.url", f"needs {' or '.join(' '.join(s) for s in opening)}, which {name} does not ask for"


def _given(entry: Provider, capability: Capability) -> frozenset[str]:
    return entry.with_implied(capability.requires | set(entry.always_ask))


def _times(entry: Provider) -> Found:
    if entry.assumed_life is not None and entry.refresh_lead >= entry.assumed_life:
        yield (
            "refresh_lead",
            f"is {length(entry.refresh_lead)}, and a token lives for {length(entry.assumed_life)}: it is never fresh",
        )
    if entry.rotation_grace and not entry.rotates_refresh_token:
        yield "rotation_grace", "is given, and no refresh token rotates"


def _variables(entry: Provider) -> Found:
    used = entry.model_dump_json(include={"authorize_url", "token_url", "revoke_url", "introspect_url", "api_headers"})
    used += entry.model_dump_json(include={"identity", "capabilities"})
    for name in entry.variables:
        if name not in entry.placeholders(used) and name != entry.identity.variable:
            yield f"variables.{name}", "completes no address and no header"


def _webhook(entry: Provider) -> Found:
    hook = entry.webhook
    if hook is None:
        return
    if hook.scheme not in _HEADED and hook.header is not None:
        yield "webhook.header", f"is given, and {hook.scheme} has headers of its own"
    if hook.prefix and hook.scheme not in _PREFIXED:
        yield "webhook.prefix", f"is given, and {hook.scheme} has none"
    if not hook.event:
        yield "webhook.event", "is empty: nobody could tell what a delivery is about"
