import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.answer import IN_WORDS, LONGEST_WAIT, Reading, error_code, hear, retry_after
from integrations.domain.verdict import Content, Heard

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUOTA = Reading(quota_remaining="X-RateLimit-Remaining", quota_reset="X-RateLimit-Reset")


def heard(
    status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"", reading: Reading | None = None
) -> Heard:
    return hear(status, httpx.Headers(headers or {}), body, reading or Reading(), now=NOW)[0]


class TestTheContent:
    @pytest.mark.parametrize(
        ("body", "kind", "content"),
        [
            (b"", "application/json", Content.EMPTY),
            (b" \r\n", "", Content.EMPTY),
            (b"{}", "text/html", Content.JSON),
            (b'{"a": ', "application/json", Content.OTHER),
            (b"\xff\xfe", "application/octet-stream", Content.OTHER),
            (b"oops", "text/html; charset=utf-8", Content.HTML),
            (b"  <!DOCTYPE html><p>down", "", Content.HTML),
            (b"<html><head>", "text/plain", Content.HTML),
            (b"<error>xml</error>", "application/xml", Content.OTHER),
            (b"[" * 100_000, "application/json", Content.OTHER),
        ],
    )
    def test_is_known_by_the_body_before_its_label(self, body: bytes, kind: str, content: Content) -> None:
        assert heard(headers={"Content-Type": kind}, body=body).content is content

    def test_comes_back_parsed(self) -> None:
        assert hear(200, {}, b'{"a": [1]}', Reading(), now=NOW)[1] == {"a": [1]}


class TestAQuota:
    def test_that_is_used_up_tells_when_there_is_more(self) -> None:
        reset = str(int(NOW.timestamp()) + 90)

        found = heard(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}, reading=QUOTA)

        assert (found.exhausted, found.retry_after) == (True, timedelta(seconds=90))

    @pytest.mark.parametrize(
        ("reset", "wait"),
        [
            ("soon", None),
            ("-1", None),
            ("", None),
            ("0", timedelta(0)),
            ("9" * 11, LONGEST_WAIT),
            # One digit more, and no date could hold it.
            ("9" * 12, LONGEST_WAIT),
            ("9" * 40, LONGEST_WAIT),
        ],
    )
    def test_with_an_absurd_time_is_used_up_all_the_same(self, reset: str, wait: timedelta | None) -> None:
        found = heard(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}, reading=QUOTA)

        assert (found.exhausted, found.retry_after) == (True, wait)

    def test_that_is_not_used_up_says_nothing(self) -> None:
        found = heard(403, {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "1"}, reading=QUOTA)

        assert (found.exhausted, found.retry_after) == (False, None)

    @pytest.mark.parametrize("remaining", ["", "-1", "-", "00x", "unlimited"])
    def test_in_other_words_says_nothing(self, remaining: str) -> None:
        assert not heard(403, {"X-RateLimit-Remaining": remaining}, reading=QUOTA).exhausted

    def test_is_not_asked_for_a_time_that_the_answer_tells_itself(self) -> None:
        reset = str(int(NOW.timestamp()) + 90)
        headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset, "Retry-After": "7"}

        assert heard(403, headers, reading=QUOTA).retry_after == timedelta(seconds=7)

    def test_is_no_business_of_a_provider_without_one(self) -> None:
        assert not heard(403, {"X-RateLimit-Remaining": "0"}).exhausted


class TestAClockThatIsOff:
    @pytest.mark.parametrize("off", [timedelta(hours=-3), timedelta(minutes=10)])
    def test_is_counted_by_itself(self, off: timedelta) -> None:
        theirs = NOW + off
        headers = {"Date": _http(theirs), "Retry-After": _http(theirs + timedelta(seconds=120))}

        assert heard(503, headers).retry_after == timedelta(seconds=120)

    def test_that_is_unreadable_is_ours(self) -> None:
        headers = {"Date": "yesterday", "Retry-After": _http(NOW + timedelta(seconds=60))}

        assert heard(503, headers).retry_after == timedelta(seconds=60)


def _http(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


class TestAChallenge:
    @pytest.mark.parametrize(
        ("challenge", "code"),
        [
            ('Bearer realm="api", error="invalid_token", error_description="expired"', "invalid_token"),
            ('Bearer error="the token abc"', IN_WORDS),
            ('Bearer realm="api"', None),
            ('Bearer error=""', None),
        ],
    )
    def test_tells_the_error_that_the_body_does_not(self, challenge: str, code: str | None) -> None:
        assert heard(401, {"WWW-Authenticate": challenge}).error == code

    def test_comes_after_the_body(self) -> None:
        found = heard(401, {"WWW-Authenticate": 'Bearer error="a"'}, json.dumps({"error": "b"}).encode())

        assert found.error == "b"


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

        assert code in {None, IN_WORDS} or (code == str(value) and len(code) <= 64 and not set(code) - _CODE_LETTERS)
        assert (code is None) is (not value)

    @pytest.mark.parametrize(
        ("body", "places", "code"),
        [
            ({"error": {"code": 190, "type": "OAuthException"}}, ("error.code",), "190"),
            ({"error": {"status": "UNAUTHENTICATED", "code": 401}}, ("error.status",), "UNAUTHENTICATED"),
            ([{"errorCode": "INVALID_SESSION_ID"}], ("0.errorCode",), "INVALID_SESSION_ID"),
            ({"errors": [{"code": "Unauthorized"}]}, ("errors.0.code",), "Unauthorized"),
            # The first place that holds one wins, and `error` comes last by itself.
            ({"a": "one", "error": "two"}, ("a",), "one"),
            ({"error": "invalid_grant"}, ("error.code",), "invalid_grant"),
            # What is no code at the first place is passed over for a code at a later one.
            ({"a": "In words, as people speak", "b": "E1"}, ("a", "b"), "E1"),
            ({"a": "In words, as people speak"}, ("a",), IN_WORDS),
            # Flags and numbers of nothing are no codes.
            ({"error": True}, (), None),
            ({"error": {"code": 0}}, ("error.code",), IN_WORDS),
            ([], ("0.errorCode",), None),
            ([1], ("1",), None),
            ({"error": "x"}, ("error.²",), "x"),
        ],
    )
    def test_is_looked_for_where_the_provider_puts_it(
        self, body: Any, places: tuple[str, ...], code: str | None
    ) -> None:
        assert error_code(body, places) == code


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
        "header",
        [
            "Thu, 01 Jan 2026 12:00:00 +99999999999999999999",
            "Thu, 99999999999999999999 Jan 2026 12:00:00 GMT",
            # A date by itself, and none any more in our zone.
            "Fri, 31 Dec 9999 23:59:59 -2359",
        ],
    )
    def test_is_ignored_when_its_numbers_fit_into_no_date(self, header: str) -> None:
        assert retry_after(header, NOW) is None

    @given(st.integers(0), st.datetimes(timezones=st.just(UTC)))
    def test_is_never_negative_and_never_beyond_an_hour(self, seconds: int, now: datetime) -> None:
        wait = retry_after(str(seconds), now)

        assert wait is not None
        assert timedelta(0) <= wait <= LONGEST_WAIT == timedelta(hours=1)
