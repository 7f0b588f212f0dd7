from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from integrations.domain.gate import Answer, Decision
from integrations.domain.job import (
    JobRequest,
    JobResult,
    called_again,
    has_newer_token,
    not_renewed,
    was_about_an_older,
)
from integrations.domain.refresh import Refresh, Refreshed
from integrations.domain.verdict import Heard, Meaning, judge

REFUSED = JobResult(
    decision=Decision(answer=Answer.ALLOWED),
    meaning=Meaning.OWNER_MUST_ACT,
    because="401: the access token is not accepted",
    status=401,
    refused_version=3,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


def asked(payload: dict[str, Any], capability: str = "notes.write") -> JobRequest:
    return JobRequest(
        connection_id=UUID(int=1),
        provider_id="simulator",
        tenant="org:acme",
        capability=capability,
        idempotency_key="k",
        payload=payload,
        by="ada",
        reason="a test",
    )


class TestTwoRequestsOfOneKey:
    @given(PAYLOADS, PAYLOADS)
    def test_differ_exactly_when_their_payloads_do(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        # True == 1 in Python, and not in JSON.
        same = repr(_sorted(one)) == repr(_sorted(other))

        assert (asked(one).differs_from(asked(other)) == "") == same

    @given(PAYLOADS)
    def test_are_the_same_after_they_have_been_in_a_history(self, payload: dict[str, Any]) -> None:
        stored = JobRequest.model_validate_json(asked(payload).model_dump_json())

        assert asked(dict(reversed(payload.items()))).differs_from(stored) == ""

    def test_are_told_apart_by_words_that_hold_no_payload(self) -> None:
        said = asked({"text": "hush"}).differs_from(asked({"text": "a secret"}, "notes.read"))

        assert "notes.read" in said
        assert "digest" in said
        assert "secret" not in said
        assert "hush" not in said


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, _sorted(part)) for name, part in value.items())
    return [_sorted(part) for part in value] if isinstance(value, list) else value


class TestAfterARefresh:
    @pytest.mark.parametrize("refresh", list(Refresh))
    def test_there_is_a_newer_token_only_when_somebody_got_one(self, refresh: Refresh) -> None:
        renewed = refresh in {Refresh.REFRESHED, Refresh.ROTATED_MEANWHILE}

        assert has_newer_token(REFUSED, Refreshed(refresh=refresh, version=4)) == renewed
        assert not was_about_an_older(REFUSED, Refreshed(refresh=refresh, version=4))
        assert not has_newer_token(REFUSED, Refreshed(refresh=refresh, version=3))
        assert was_about_an_older(REFUSED, Refreshed(refresh=refresh, version=3)) == renewed

    def test_in_vain_the_job_says_why_and_who_is_asked(self) -> None:
        ended = not_renewed(REFUSED, Refreshed(refresh=Refresh.REFUSED, why="no", detection_id=UUID(int=2)))

        assert ended.because.endswith("and no refresh helped: no; the owner is asked to consent again")
        assert (ended.meaning, ended.refresh) == (Meaning.OWNER_MUST_ACT, Refresh.REFUSED)

    def test_in_vain_while_the_platform_may_not_act_nobody_is_said_to_be_asked(self) -> None:
        refused = Refreshed(refresh=Refresh.REFUSED, why="no", detection_id=UUID(int=2), waits=True)

        ended = not_renewed(REFUSED, refused)

        assert ended.because.endswith("no; nothing is done about it by itself just now: runbook automation")
        assert "asked" not in ended.because

    def test_that_is_set_aside_nobody_has_to_act_but_the_provider(self) -> None:
        ended = not_renewed(REFUSED, Refreshed(refresh=Refresh.SET_ASIDE, why="shielded"))

        assert (ended.meaning, ended.outcome) == (Meaning.OUTAGE, "outage")
        assert ended.because.endswith("and no refresh helped: shielded")

    def test_that_was_no_use_the_job_says_so_and_one_that_was_it_does_not(self) -> None:
        refreshed = Refreshed(refresh=Refresh.REFRESHED, version=4)
        good = REFUSED.model_copy(update={"meaning": Meaning.OK, "because": "200", "refused_version": None})

        assert called_again(REFUSED, refreshed).because.endswith("not even after a refresh")
        assert (called_again(good, refreshed).because, called_again(good, refreshed).refresh) == (
            "200",
            Refresh.REFRESHED,
        )


class TestItsOutcome:
    def test_is_one_word(self) -> None:
        blocked = JobResult(decision=Decision(answer=Answer.BLOCKED))
        good = REFUSED.model_copy(update={"meaning": Meaning.OK})

        assert (good.outcome, REFUSED.outcome, blocked.outcome) == ("done", "owner_must_act", "blocked")

    @pytest.mark.parametrize("patience", [timedelta(0), timedelta(seconds=-1)])
    def test_is_not_to_be_parked_before_it_began(self, patience: timedelta) -> None:
        with pytest.raises(ValidationError):
            JobRequest(**(asked({}).model_dump() | {"patience": patience}))


class TestATokenIsRefused:
    @pytest.mark.parametrize(
        ("heard", "refused"),
        [
            (Heard(status=401), True),
            (Heard(status=200, error="invalid_token"), True),
            (Heard(status=403, error="insufficient_scope"), True),
            (Heard(status=403), False),
            (Heard(status=503, error="invalid_token"), False),
            (Heard(status=404), False),
            (Heard(status=200), False),
        ],
    )
    def test_by_a_401_and_never_by_trouble_or_a_bare_403(self, heard: Heard, refused: bool) -> None:
        assert judge(heard).refuses_token == refused
