"""The contract of refreshing: by the entry's grant, rotating as it says, and what a spent token is worth."""

from pydantic import SecretStr

from integrations.domain.verdict import Meaning
from integrations.providers.granted import Granted
from starters.contract.outcome import length
from starters.contract.trial import Trial


async def renewal(trial: Trial) -> None:
    entry, granted = trial.entry, trial.granted
    if entry.flow == "client_credentials" or granted is None:
        return
    token = trial.renews_with(granted)
    trial.must(
        "refresh token",
        token is not None,
        expected=f"the consent brings what a refresh sends: the {entry.refresh_by.sends}",
        heard="it" if token else "no refresh token",
        correct=["refresh_by.sends", "always_ask", "authorize_parameters", "exchange_parameters"],
    )
    assert token is not None
    answer = await trial.client().refresh(token)
    trial.must(
        "refresh",
        answer.granted is not None,
        expected=f"{entry.refresh_by.grant_type} brings a new access token",
        heard=answer.verdict.because if answer.granted is None else "one",
        correct=["refresh_by", "token_url"],
    )
    assert answer.granted is not None
    if _rotated(trial, token, answer.granted) and entry.rotates_refresh_token:
        await _again(trial, token, answer.granted)
        await _too_late(trial, token)
    trial.granted = await trial.connects()


def _rotated(trial: Trial, old: SecretStr, new: Granted) -> bool:
    rotates, came = trial.entry.rotates_refresh_token, new.refresh_token not in {None, old}
    return trial.says(
        "rotation",
        came == rotates,
        expected="each refresh brings another refresh token" if rotates else "the refresh token stays the one it is",
        heard="another one" if came else "none, or the same",
        correct=["rotates_refresh_token"],
    )


async def _again(trial: Trial, old: SecretStr, new: Granted) -> None:
    """An answer was lost, and the same token is sent once more while that is allowed."""
    if not trial.entry.rotation_grace:
        return
    answer = await trial.client().refresh(old)
    same = answer.granted is not None and answer.granted.refresh_token == new.refresh_token
    trial.says(
        "within the grace",
        same,
        expected=f"the old token, sent again within {length(trial.entry.rotation_grace)}, brings the same successor",
        heard="the same" if same else answer.verdict.because,
        correct=["rotation_grace"],
    )


async def _too_late(trial: Trial, old: SecretStr) -> None:
    await trial.stage.settings(rotation_grace_s=0)
    answer = await trial.client().refresh(old)
    await trial.stage.settings(rotation_grace_s=trial.entry.rotation_grace.total_seconds())
    trial.says(
        "after the grace",
        answer.verdict.meaning is Meaning.OWNER_MUST_ACT,
        expected="owner_must_act: the old token is refused",
        heard=f"{answer.verdict.meaning}: {answer.verdict.because}",
        correct=["terminal_errors", "errors.at"],
    )
