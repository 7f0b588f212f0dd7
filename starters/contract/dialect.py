"""What the simulator is told to speak, from a catalog entry: the same facts, seen from the provider's side. Pure.

Where an entry leaves something open, the harder case is taken: a word of the provider's own comes inside a 200, where
nothing else says what it means; a code that looks like a number is one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from integrations.providers.entry import CLIENT_ID, Call, Provider, Variable
from starters.contract.addresses import path

_OK: Final = 200
_STANDARD_SCOPE_FIELD: Final = "scope"


def speak(entry: Provider, told: Mapping[str, str], client_id: str) -> dict[str, Any]:
    """The dialect, as `PUT /admin/dialect` takes it. `told` is what a source says for each variable."""
    values = _values(entry, told) | {CLIENT_ID: client_id}
    errors = entry.errors
    at = errors.at[0] if errors.at else "error"
    return {
        "name": entry.name,
        **{
            room: path(entry.fill(url, values))
            for room in ("authorize", "token", "revoke", "introspect")
            if (url := getattr(entry, f"{room}_url"))
        },
        "client_auth": entry.token_auth,
        "client_id_parameter": entry.client_id_parameter,
        "pkce": entry.pkce,
        "scopes": sorted({*entry.always_ask, *entry.with_implied(entry.asked_grants)}),
        "scope_separator": entry.scope_separator,
        "granted_at": entry.granted_field,
        # Whoever calls it something else sends a list.
        "granted_separator": (entry.granted_separator or entry.scope_separator)
        if entry.granted_field == _STANDARD_SCOPE_FIELD
        else None,
        "implied": {scope: sorted(more) for scope, more in entry.implied.items()},
        "authorize_parameters": entry.authorize_parameters,
        "exchange_parameters": entry.exchange_parameters,
        "callback": _members(entry.told_by("callback"), told),
        "renewal": entry.refresh_by.model_dump(),
        "expires_in": "number" if entry.assumed_life is None else "absent",
        "token_members": _members(entry.told_by("token"), told),
        "token_header": entry.token_header,
        "token_prefix": entry.token_prefix,
        "identity": _identity(entry, told, values),
        "endpoints": _endpoints(entry, values),
        "api_members": {at: _word(errors.none)} if errors.none else {},
        "api_error_at": at,
        "words": {own: {"word": _word(codes), "status": status} for own, codes, status in _words(entry) if codes},
        "quota": entry.quota.model_dump() if entry.quota else None,
    }


def strictness(entry: Provider) -> dict[str, Any]:
    """The settings that go with it, as `PUT /admin/settings` takes them."""
    return {
        "pkce_required": entry.pkce,
        "rotate": entry.rotates_refresh_token,
        "rotation_grace_s": entry.rotation_grace.total_seconds(),
        "reuse_detection": entry.rotates_refresh_token,
        "introspection": entry.introspect_url is not None,
        "client_credentials": entry.flow == "client_credentials",
    }


def _words(entry: Provider) -> Iterator[tuple[str, frozenset[str], int | None]]:
    """The simulator's word, the provider's for it, and the status of the answer that it comes in."""
    yield "invalid_grant", entry.terminal_errors, _OK
    yield "invalid_client", entry.errors.operator, _OK
    yield "insufficient_scope", entry.errors.scope, _OK
    yield "invalid_token", entry.errors.token, _OK
    # These come only as faults, which say the status themselves.
    yield "too_many_requests", entry.errors.throttled, None
    yield "temporarily_unavailable", entry.errors.busy, None


def _values(entry: Provider, told: Mapping[str, str]) -> dict[str, str]:
    read = {name: variable.read(told[name]) for name, variable in entry.variables.items()}
    return {name: value for name, value in read.items() if value is not None}


def _members(variables: Mapping[str, Variable], told: Mapping[str, str]) -> dict[str, str]:
    return {variable.field or name: told[name] for name, variable in variables.items()}


def _identity(entry: Provider, told: Mapping[str, str], values: Mapping[str, str]) -> dict[str, Any]:
    own = entry.told_by("identity")
    headers = {name: text for name, text in entry.api_headers.items() if not entry.placeholders(text) & set(own)}
    call = Call(method=entry.identity.method, url=entry.identity.url)
    return _endpoint(entry, call, values) | {
        "headers": _filled(entry, headers, values),
        "id_at": entry.identity.field,
        "name_at": entry.identity.name_field,
        "members": _members(own, told),
    }


def _endpoints(entry: Provider, values: Mapping[str, str]) -> list[dict[str, Any]]:
    calls = [call for capability in entry.capabilities.values() for call in (capability.call, capability.probe)]
    return [_endpoint(entry, call, values) for call in dict.fromkeys(calls)]


def _endpoint(entry: Provider, call: Call, values: Mapping[str, str]) -> dict[str, Any]:
    return {
        "method": call.method,
        "path": path(entry.fill(call.url, values)),
        "needs": needs(entry, call),
        "headers": _filled(entry, entry.api_headers, values),
        "answers": "json" if call.answers == "json" else "page",
    }


def needs(entry: Provider, call: Call) -> list[list[str]]:
    """The sets of scopes any of which opens an address: those of the capabilities that call it, or only probe it.

    A call tells more than a probe: who calls it has it for its own sake. Whose account it is may be asked with any
    token, unless asking it is what some capability is for.
    """
    address = (call.method, call.url)
    every = entry.capabilities.values()
    callers = [c.requires for c in every if (c.call.method, c.call.url) == address]
    probers = [c.requires for c in every if (c.probe.method, c.probe.url) == address]
    identity = (entry.identity.method, entry.identity.url)
    sets = set(callers or ([] if address == identity else probers))
    return [] if frozenset() in sets else sorted(sorted(scopes) for scopes in sets)


def _filled(entry: Provider, headers: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    return {name: entry.fill(text, values) for name, text in headers.items()}


def _word(codes: Iterable[str]) -> str | int:
    first = min(codes)
    return int(first) if first.isdecimal() and str(int(first)) == first else first
