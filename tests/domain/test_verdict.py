from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.verdict import IN_WORDS, LONGEST_WAIT, Heard, Meaning, Trouble, error_code, judge, retry_after

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEAD = frozenset({"bad_refresh_token"})


class TestAVerdict:
    @pytest.mark.parametrize(
        ("status", "error", "meaning"),
        [
            (200, None, "ok"),
            (201, None, "ok"),
            (204, None, "ok"),
            # A provider in trouble says nothing about a grant, whatever its body.
            (500, None, "outage"),
            (503, "invalid_grant", "outage"),
            (502, "invalid_client", "outage"),
            (599, "bad_refresh_token", "outage"),
            # An error inside a 200 is an error.
            (200, "invalid_grant", "owner_must_act"),
            (200, "bad_refresh_token", "owner_must_act"),
            (200, "invalid_client", "operator_must_act"),
            (200, "something_else", "unknown"),
            # Whose errors they are.
            (400, "invalid_grant", "owner_must_act"),
            (400, "bad_refresh_token", "owner_must_act"),
            (400, "invalid_client", "operator_must_act"),
            (401, "invalid_client", "operator_must_act"),
            (400, "unauthorized_client", "operator_must_act"),
            (400, "unsupported_grant_type", "operator_must_act"),
            (400, "invalid_scope", "operator_must_act"),
            (400, "invalid_request", "operator_must_act"),
            (400, "temporarily_unavailable", "retry"),
            (400, "slow_down", "retry"),
            (400, "server_error", "retry"),
            (408, None, "retry"),
            (401, None, "owner_must_act"),
            (401, "invalid_token", "owner_must_act"),
            (403, None, "owner_must_act"),
            (403, "insufficient_scope", "owner_must_act"),
            # Too many is too many, whatever else is said.
            (429, None, "throttled"),
            (429, "invalid_grant", "throttled"),
            # What no rule knows is nobody's fault yet.
            (400, None, "unknown"),
            (400, "something_else", "unknown"),
            (404, None, "unknown"),
            (302, None, "unknown"),
        ],
    )
    def test_is_what_the_table_says(self, status: int, error: str | None, meaning: str) -> None:
        verdict = judge(Heard(status=status, error=error), terminal_errors=DEAD)

        assert verdict.meaning == meaning
        assert verdict.because

    def test_takes_a_providers_own_word_for_a_dead_grant_only_from_that_provider(self) -> None:
        heard = Heard(status=400, error="bad_refresh_token")

        assert judge(heard).meaning is Meaning.UNKNOWN

    @pytest.mark.parametrize("trouble", Trouble)
    def test_calls_silence_an_outage(self, trouble: Trouble) -> None:
        verdict = judge(Heard(trouble=trouble, trouble_kind="ReadTimeout"))

        assert verdict.meaning is Meaning.OUTAGE
        assert "ReadTimeout" in verdict.because

    @pytest.mark.parametrize(("status", "error"), [(503, None), (429, None), (400, "slow_down")])
    def test_passes_on_how_long_the_provider_asked_to_wait(self, status: int, error: str | None) -> None:
        heard = Heard(status=status, error=error, retry_after=timedelta(seconds=7))

        assert judge(heard).after == timedelta(seconds=7)

    @given(st.integers(500, 599), st.text(max_size=40) | st.none())
    def test_never_blames_the_grant_for_a_server_error(self, status: int, error: str | None) -> None:
        verdict = judge(Heard(status=status, error=error), terminal_errors=DEAD | ({error} if error else set()))

        assert verdict.meaning is Meaning.OUTAGE


class TestWhatWasHeard:
    def test_reads_as_status_and_code(self) -> None:
        assert Heard(status=400, error="invalid_grant").words == "400 invalid_grant"
        assert Heard(status=503).words == "503"
        assert Heard(trouble=Trouble.LOST, trouble_kind="ReadError").words == "no answer (ReadError)"


class TestAnErrorCode:
    @pytest.mark.parametrize("code", ["invalid_grant", "bad_refresh_token", "E42", "a.b-c"])
    def test_is_taken_from_a_parsed_body(self, code: str) -> None:
        assert error_code({"error": code}) == code

    @pytest.mark.parametrize(
        "body",
        [None, [], "invalid_grant", {}, {"error": None}, {"error": ""}, {"error": 0}, {"error_description": "dead"}],
    )
    def test_is_not_there_when_no_error_is(self, body: object) -> None:
        assert error_code(body) is None

    @pytest.mark.parametrize(
        "error",
        [
            17,
            {"code": "invalid_grant"},
            ["invalid_grant"],
            "the token is dead",
            "The token abc of ada@acme.example is dead",
            "invalid_grant\n",
            "a" * 65,
            "ïnvalid",
        ],
    )
    def test_of_an_error_in_words_repeats_none_of_them(self, error: object) -> None:
        assert error_code({"error": error}) == IN_WORDS

    @given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
    def test_never_passes_free_text(self, value: Any) -> None:
        code = error_code({"error": value})

        assert code in {None, IN_WORDS} or (code == value and len(code) <= 64 and not set(code) - _CODE_LETTERS)
        assert (code is None) is (not value)

    def test_in_words_inside_a_200_is_no_success(self) -> None:
        assert judge(Heard(status=200, error=IN_WORDS)).meaning is Meaning.UNKNOWN


_CODE_LETTERS = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("0", 0),
            ("120", 120),
            (" 7 ", 7),
            ("Thu, 01 Jan 2026 12:02:00 GMT", 120),
            ("Thu, 01 Jan 2026 13:01:00 +0100", 60),
            # In the past: now.
            ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
            # Not believed.
            ("86400", 3600),
            ("9" * 5000, 3600),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ],
    )
    def test_is_read_in_both_forms_and_within_reason(self, header: str, seconds: int) -> None:
        assert retry_after(header, NOW) == timedelta(seconds=seconds)

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "soon",
            "-5",
            "1.5",
            "1e3",
            "٣",
            "²",
            "Thu, 01 Jan 2026 12:02:00 -0000",
            "Thu, 99 Jan 2026 12:02:00 GMT",
            "Thu, 01 Jan 99999 12:02:00 GMT",
        ],
    )
    def test_is_ignored_when_it_makes_no_sense(self, header: str | None) -> None:
        assert retry_after(header, NOW) is None

    @pytest.mark.parametrize(
        "header", ["Thu, 01 Jan 2026 12:00:00 +99999999999999999999", "Thu, 99999999999999999999 Jan 2026 12:00:00 GMT"]
    )
    def test_is_ignored_when_its_numbers_fit_into_no_date(self, header: str) -> None:
        assert retry_after(header, NOW) is None

    @given(st.integers(0), st.datetimes(timezones=st.just(UTC)))
    def test_is_never_negative_and_never_beyond_an_hour(self, seconds: int, now: datetime) -> None:
        wait = retry_after(str(seconds), now)

        assert wait is not None
        assert timedelta(0) <= wait <= LONGEST_WAIT == timedelta(hours=1)
