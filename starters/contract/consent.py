"""The contract's beginning: the owner's consent, the tokens it brings, and whose account it is."""

from datetime import UTC, datetime, timedelta
from typing import Final

from integrations.domain.verdict import Verdict
from integrations.providers.granted import Granted
from starters.contract.outcome import length
from starters.contract.stage import APPLICATION, OWNER
from starters.contract.trial import Asked, CannotGoOnError, Trial

_SLACK: Final = timedelta(minutes=1)
_CLIENT: Final = ("token_auth", "client_id_parameter")
_SUSPECTS: Final = {
    "registration-wrong": _CLIENT,
    "request-wrong": ("exchange_parameters", "pkce", *_CLIENT),
    "grant-dead": ("pkce",),
    "not-here": ("token_url",),
    "success-without-token": ("token_url",),
}
"""What is probably wrong when the token endpoint gives no tokens, by the rule that its answer meets."""
_ADDRESS: Final = ("identity.url", "identity.method")
_NOT_REACHED: Final = {
    "token-not-accepted": ("token_header", "token_prefix"),
    "request-wrong": ("api_headers",),
    "error-unknown": ("errors.none", "errors.at"),
}
"""The same for the identity's address."""


async def consent(trial: Trial) -> None:
    if trial.entry.flow == "client_credentials":
        answer = await trial.client().client_credentials(trial.entry.asked_grants)
        _tokens(trial, answer.granted, answer.verdict)
        return
    asked = await trial.asks()
    expected = "the address leads through login and consent to a code"
    trial.must(
        "authorize",
        asked.consent.code is not None,
        expected=expected,
        heard=asked.consent.heard or "a code",
        correct=_why_no_code(asked.consent.heard),
    )
    trial.told(trial.entry.values_of("callback", asked.consent.query))
    await _exchange(trial, asked)


def _why_no_code(heard: str) -> tuple[str, ...]:
    for part, keys in (
        ("scope", ("scope_separator", "always_ask", "capabilities.*.requires")),
        ("code_challenge", ("pkce",)),
        ("client", ("client_id_parameter",)),
        ("404", ("authorize_url",)),
    ):
        if part in heard:
            return keys
    return ("authorize_parameters",)


async def _exchange(trial: Trial, asked: Asked) -> None:
    answer = await trial.exchanges(asked)
    seen = str((await trial.stage.last_request()).get("pkce"))
    _tokens(trial, answer.granted, answer.verdict)
    wanted = "verified" if trial.entry.pkce else "absent"
    expected = f"the provider finds the code's verifier {wanted}"
    trial.says("pkce", seen == wanted, expected=expected, heard=seen, correct=["pkce"])


def _tokens(trial: Trial, granted: Granted | None, verdict: Verdict) -> None:
    trial.must(
        "tokens",
        granted is not None,
        expected="the token endpoint gives tokens",
        heard="tokens" if granted else verdict.because,
        correct=_SUSPECTS.get(verdict.rule, ("errors", *_CLIENT)),
    )
    assert granted is not None
    trial.granted = granted
    trial.told(granted.values)
    _life(trial, granted)
    _learned(trial, "variables of the consent", [*trial.entry.told_by("callback"), *trial.entry.told_by("token")])


def _life(trial: Trial, granted: Granted) -> None:
    """The simulator's tokens live for an hour, and it tells so unless the entry says that its provider does not."""
    assumed = trial.entry.assumed_life
    lasts = None if granted.expires_at is None else granted.expires_at - datetime.now(UTC)
    wanted = assumed or timedelta(hours=1)
    trial.says(
        "lifetime",
        lasts is not None and abs(lasts - wanted) < _SLACK,
        expected=f"the access token's end is known: in {length(wanted)}" + (" (assumed)" if assumed else ""),
        heard="no end" if lasts is None else f"in {length(timedelta(minutes=round(lasts / timedelta(minutes=1))))}",
        correct=["assumed_life"],
    )


def _learned(trial: Trial, name: str, asked: list[str]) -> None:
    if not asked:
        return
    missing = [variable for variable in asked if variable not in trial.values]
    trial.must(
        name,
        not missing,
        expected=f"the answer tells {', '.join(asked)}",
        heard=f"nothing that fits {', '.join(missing)}" if missing else "all of them",
        correct=[f"variables.{variable}.{key}" for variable in missing for key in ("source", "field", "pattern")],
    )


async def grants(trial: Trial) -> None:
    """Whoever unticks one scope has not given it, and has given all the others."""
    entry, asked = trial.entry, trial.entry.asked_grants
    if entry.flow == "client_credentials" or not asked:
        return
    # What implies another one brings it along, so that unticking that other one alone would change nothing.
    left_out = {asked[-1], *(scope for scope in asked if asked[-1] in entry.with_implied([scope]))}
    given = set(asked) - left_out
    assert trial.granted is not None
    told = [(set(asked), trial.granted.grants)]
    if trial.can_leave_out(left_out):
        told.append((given, (await trial.connects(without=left_out)).grants))
    # The first that was understood otherwise than it was allowed; an answer that names none is not understood at all.
    wrong = next(((allowed, named) for allowed, named in told if allowed != set(named or ()) & set(asked)), None)
    allowed, named = wrong or told[-1]
    trial.says(
        "grants",
        wrong is None,
        expected=f"the answer tells what was allowed: {' '.join(sorted(allowed)) or 'none of them'}",
        heard="no scopes" if named is None else " ".join(named),
        correct=["granted_separator", "granted_field", "scope_separator", "implied"],
    )


async def identity(trial: Trial) -> None:
    if trial.granted is None:
        return
    entry = trial.entry
    answer = await trial.client().identity(trial.granted.access_token)
    found = answer.account
    heard = f"{found.id} ({found.name})" if found else answer.verdict.because
    wanted = _account_id(trial)
    ok, expected = found is not None and found.id == wanted, f"the account's id, {wanted}"
    # An answer that no rule judged was good, and only the id was not where it should be.
    keys = ["identity.field"] if found or not answer.verdict.rule else _NOT_REACHED.get(answer.verdict.rule, _ADDRESS)
    trial.says("identity", ok, expected=expected, heard=heard, correct=keys)
    if found is None:
        raise CannotGoOnError("identity")
    trial.told(answer.values)
    if ok and entry.identity.name_field:
        _, name = _account(trial)
        told = found.name == name
        trial.says("account's name", told, expected=name, heard=str(found.name), correct=["identity.name_field"])
    _learned(trial, "variables of the identity", [*entry.told_by("identity")])


def _account_id(trial: Trial) -> str | None:
    """As the simulator tells it: an account of its own, a value of the entry's pattern, or what the address holds."""
    who, variable = trial.dialect["identity"], trial.entry.identity.variable
    told: str = who["members"].get(who["id_at"], _account(trial)[0])
    return told if variable is None else trial.values.get(variable)


def _account(trial: Trial) -> tuple[str, str]:
    return APPLICATION if trial.entry.flow == "client_credentials" else OWNER
