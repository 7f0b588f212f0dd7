"""The contract of each capability: its probe and its call work with what it requires, and not without."""

from typing import Final

from integrations.domain.verdict import Meaning, Verdict
from integrations.providers.entry import Call, Capability
from integrations.providers.granted import Granted
from starters.contract.trial import Trial

_PERMISSION: Final = frozenset({"permission-missing", "forbidden"})
_REACHING: Final = {
    "token-not-accepted": ("token_header", "token_prefix"),
    "permission-missing": ("requires",),
    "forbidden": ("requires",),
    "request-wrong": ("api_headers",),
    "not-here": (),
    "error-unknown": ("errors.none", "errors.scope"),
}


async def capabilities(trial: Trial) -> None:
    tokens: dict[frozenset[str], Granted] = {}
    for name, capability in trial.entry.capabilities.items():
        others = frozenset(trial.entry.asked_grants) - capability.requires
        if others not in tokens:
            tokens[others] = await _with_the_rest(trial, others)
        await _works(trial, name, "probe", capability, tokens[others])
        if await _works(trial, name, "call", capability, tokens[others]):
            await _refused(trial, name, capability, tokens)


async def _works(trial: Trial, name: str, kind: str, capability: Capability, granted: Granted) -> bool:
    verdict = await _called(trial, capability.probe if kind == "probe" else capability.call, granted)
    wanted = " ".join(sorted(capability.requires)) or "a token and no scope"
    return trial.says(
        f"{name}: {kind}",
        verdict.meaning is Meaning.OK,
        expected=f"works with {wanted}",
        heard=verdict.because,
        correct=_keys(name, kind, verdict),
    )


async def _with_the_rest(trial: Trial, left_out: frozenset[str]) -> Granted:
    assert trial.granted is not None
    return await trial.connects(without=left_out) if left_out and trial.can_leave_out(left_out) else trial.granted


async def _called(trial: Trial, call: Call, granted: Granted) -> Verdict:
    client = trial.client()
    return client.judge_call(await client.call(call, granted.access_token, payload={}))


def _keys(name: str, kind: str, verdict: Verdict) -> list[str]:
    place = f'capabilities."{name}"'
    more = [f"{place}.requires" if key == "requires" else key for key in _REACHING.get(verdict.rule, ())]
    return [*more, f"{place}.{kind}"]


async def _refused(trial: Trial, name: str, capability: Capability, tokens: dict[frozenset[str], Granted]) -> None:
    """Without any one of what it requires, the answer has to send somebody to the owner, and for a permission."""
    for scope in sorted(capability.requires):
        left_out = frozenset({scope})
        if left_out not in tokens:
            tokens[left_out] = await _with_the_rest(trial, left_out)
        if not trial.can_leave_out(left_out):
            await trial.stage.fault(kind="status", status=403, path="/api", body={"error": "insufficient_scope"})
        verdict = await _called(trial, capability.call, tokens[left_out])
        works = verdict.meaning is Meaning.OK
        keys = [f'capabilities."{name}".requires'] if works else ["errors.scope", "errors.at"]
        trial.says(
            f"{name}: refused",
            verdict.rule in _PERMISSION,
            expected=f"without {scope}: owner_must_act, a permission is missing",
            heard=f"{verdict.meaning}: {verdict.because}",
            correct=keys,
        )
