"""The contract of bad news: who must act is judged right, in the provider's own words."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from pydantic import SecretStr

from integrations.domain.verdict import Meaning, Verdict
from integrations.providers.entry import Call
from integrations.providers.oauth import OAuthClient, TokenAnswer
from starters.contract.trial import Trial

_TOKEN: Final = "/oauth/token"  # noqa: S105 - the simulator's own path: faults come in its own words
_API: Final = "/api"
_WAIT: Final = timedelta(seconds=7)
_DEAD: Final = {"error": "invalid_grant"}
_TOO_MANY: Final = {"error": "too_many_requests"}


async def troubles(trial: Trial) -> None:
    """What passes by itself is never taken for a refusal, whatever it says."""
    own, entry = ["terminal_errors", "errors"], trial.entry
    await _hear(trial, "503 that calls the grant dead", Meaning.OUTAGE, own, path=_TOKEN, status=503, body=_DEAD)
    await _hear(trial, "a proxy's page", Meaning.OUTAGE, own, kind="html", path=_TOKEN, status=502)
    verdict = await _broken(trial, kind="throttle", path=_API, status=429, retry_after=int(_WAIT.total_seconds()))
    _judged(trial, "429", verdict, Meaning.THROTTLED, own, after=_WAIT)
    if entry.errors.throttled:
        keys = ["errors.throttled", "errors.at"]
        await _hear(trial, "throttled in a word", Meaning.THROTTLED, keys, path=_API, status=200, body=_TOO_MANY)
    if entry.errors.busy:
        keys, busy = ["errors.busy", "errors.at"], {"error": "temporarily_unavailable"}
        await _hear(trial, "busy in a word", Meaning.RETRY, keys, path=_API, status=200, body=busy)
    if entry.errors.token:
        keys, body = ["errors.token", "errors.at"], {"error": "invalid_token"}
        await _hear(trial, "access token not accepted", Meaning.OWNER_MUST_ACT, keys, path=_API, status=200, body=body)
    if entry.quota:
        verdict = await _broken(trial, path=_API, status=403, body=_TOO_MANY)
        ok = verdict.meaning is Meaning.THROTTLED and (verdict.after is not None or entry.quota.reset is None)
        heard = f"{verdict.meaning}: {verdict.because}"
        expected = "throttled: a 403 with a used up quota, and until when"
        trial.says("quota", ok, expected=expected, heard=heard, correct=["quota"])


async def _hear(trial: Trial, name: str, wanted: Meaning, keys: Sequence[str], **order: Any) -> None:
    _judged(trial, name, await _broken(trial, **order), wanted, keys)


async def _broken(trial: Trial, *, path: str, kind: str = "status", **order: Any) -> Verdict:
    """The verdict on one call that is broken on purpose."""
    assert trial.granted is not None
    await trial.stage.fault(kind=kind, path=path, **order)
    client = trial.client()
    if path == _API:
        whose = Call(method=trial.entry.identity.method, url=trial.entry.identity.url)
        verdict = client.judge_call(await client.call(whose, trial.granted.access_token))
    else:
        verdict = (await _renewed(trial, client)).verdict
    await trial.stage.heal()
    return verdict


async def _renewed(trial: Trial, client: OAuthClient) -> TokenAnswer:
    assert trial.granted is not None
    if trial.entry.flow == "client_credentials":
        return await client.client_credentials(trial.entry.asked_grants)
    return await client.refresh(_renewing(trial))


def _renewing(trial: Trial) -> SecretStr:
    assert trial.granted is not None
    return trial.renews_with(trial.granted) or trial.granted.access_token


def _judged(
    trial: Trial, name: str, verdict: Verdict, wanted: Meaning, keys: Sequence[str], after: timedelta | None = None
) -> bool:
    ok = verdict.meaning is wanted and (after is None or verdict.after == after)
    expected = f"{wanted}, after {after.total_seconds():.0f} s" if after else f"{wanted}"
    return trial.says(name, ok, expected=expected, heard=f"{verdict.meaning}: {verdict.because}", correct=keys)


async def registration(trial: Trial) -> None:
    verdict = (await _renewed(trial, trial.client("another secret"))).verdict
    _judged(trial, "a wrong client secret", verdict, Meaning.OPERATOR_MUST_ACT, ["errors.operator", "errors.at"])


async def endings(trial: Trial) -> None:
    """A grant that is given back here where the entry offers that, and else one that the owner ends at the provider."""
    token, client = _renewing(trial), trial.client()
    said = [await client.introspect(token)] if trial.entry.introspect_url else []
    revoked = False
    if trial.entry.revoke_url:
        verdict = (await client.revoke(token)).verdict
        revoked = _judged(trial, "revoke", verdict, Meaning.OK, ["revoke_url"])
    if not revoked:
        await trial.stage.revoke()
    if trial.entry.introspect_url:
        said.append(await client.introspect(token))
        ok = [answer.active for answer in said] == [True, False]
        heard = ", then ".join(a.verdict.because if a.active is None else f"active: {a.active}" for a in said)
        expected = "active while the grant lives, and not when it is revoked"
        trial.says("introspection", ok, expected=expected, heard=heard, correct=["introspect_url"])
    if trial.entry.flow != "client_credentials":
        verdict = (await client.refresh(token)).verdict
        _judged(trial, "a revoked grant", verdict, Meaning.OWNER_MUST_ACT, ["terminal_errors", "errors.at"])
