"""The table of verdicts, from raw HTTP answers: what the RFCs say, and what real providers send in their place."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.answer import IN_WORDS, Reading, hear
from integrations.domain.verdict import RULES, Endpoint, Heard, Meaning, Trouble, Verdict, Vocabulary, judge

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOKEN, API = Endpoint.TOKEN, Endpoint.API
HTML = "<!DOCTYPE html><html><body>Bad gateway</body></html>"
WORDS = Vocabulary(
    none=frozenset({"ok"}),
    terminal=frozenset({"bad_refresh_token"}),
    scope=frozenset({"missing_scope"}),
    operator=frozenset({"bad_app"}),
    throttled=frozenset({"ratelimited"}),
    busy=frozenset({"internal_error"}),
    token=frozenset({"token_expired"}),
    wait_statuses=frozenset({477}),
)
AT = Reading(error_at=("error.code",), quota_remaining="X-Left", wait_words=("already being Processed",))


def judged(endpoint: Endpoint, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> Verdict:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    heard, _ = hear(status, httpx.Headers(headers or {}), raw, AT, now=NOW)
    return judge(heard, WORDS, endpoint)


def error(code: str, **more: str) -> dict[str, str]:
    return {"error": code} | more


ANSWERS = [
    # RFC 6749 section 5.1: a success.
    (TOKEN, 200, {"access_token": "a", "token_type": "bearer"}, {}, "success"),
    (API, 200, {"id": 1}, {}, "success"),
    (API, 201, {}, {}, "success"),
    (API, 204, b"", {}, "success"),
    (API, 200, b"", {}, "success"),
    # Section 5.2: what the token endpoint refuses, and whose mistake it is.
    (TOKEN, 400, error("invalid_grant"), {}, "grant-dead"),
    (TOKEN, 401, error("invalid_grant"), {}, "grant-dead"),
    (TOKEN, 400, error("invalid_grant", error_description="Token has been revoked."), {}, "grant-dead"),
    (TOKEN, 400, error("invalid_client"), {}, "registration-wrong"),
    (TOKEN, 401, error("invalid_client"), {"WWW-Authenticate": "Basic"}, "registration-wrong"),
    (TOKEN, 400, error("unauthorized_client"), {}, "registration-wrong"),
    (TOKEN, 400, error("unsupported_grant_type"), {}, "request-wrong"),
    (TOKEN, 400, error("invalid_scope"), {}, "request-wrong"),
    (TOKEN, 400, error("invalid_request"), {}, "request-wrong"),
    # Section 4.1.2.1, which some token endpoints borrow from, and RFC 8628 section 3.5.
    (TOKEN, 400, error("temporarily_unavailable"), {}, "provider-busy"),
    (TOKEN, 200, error("temporarily_unavailable"), {}, "provider-busy"),
    (TOKEN, 400, error("server_error"), {}, "provider-busy"),
    (TOKEN, 400, error("slow_down"), {}, "provider-busy"),
    (TOKEN, 503, b"", {}, "server-error"),
    (TOKEN, 503, error("temporarily_unavailable"), {}, "server-error"),
    # RFC 7009 section 2.2: revoking.
    (TOKEN, 400, error("unsupported_token_type"), {}, "request-wrong"),
    (TOKEN, 503, b"", {"Retry-After": "60"}, "server-error"),
    # RFC 6750 section 3.1: what an API refuses.
    (API, 401, b"", {"WWW-Authenticate": 'Bearer error="invalid_token"'}, "token-not-accepted"),
    (API, 401, b"", {"WWW-Authenticate": 'Bearer realm="api"'}, "token-not-accepted"),
    (API, 401, b"", {}, "token-not-accepted"),
    (API, 400, error("invalid_token"), {}, "token-not-accepted"),
    (API, 403, b"", {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="a"'}, "permission-missing"),
    (API, 403, error("insufficient_scope"), {}, "permission-missing"),
    (API, 403, b"", {}, "forbidden"),
    (API, 400, b"", {"WWW-Authenticate": 'Bearer error="invalid_request"'}, "request-wrong"),
    (API, 401, error("invalid_grant"), {}, "grant-dead"),
    # An error inside a 200 is an error; the provider's word for none is none.
    (TOKEN, 200, error("bad_refresh_token"), {}, "grant-dead"),
    (TOKEN, 200, error("invalid_client"), {}, "registration-wrong"),
    (API, 200, error("missing_scope"), {}, "permission-missing"),
    (API, 200, error("ratelimited"), {}, "throttled-by-word"),
    (API, 200, error("internal_error"), {}, "provider-busy"),
    (API, 200, error("who_knows"), {}, "error-unknown"),
    (API, 200, error("Something went wrong, sorry"), {}, "error-unknown"),
    (API, 200, {"error": {"code": "ok"}, "data": {}}, {}, "success"),
    (API, 200, {"error": {"code": "missing_scope"}}, {}, "permission-missing"),
    (TOKEN, 200, error("bad_app"), {}, "registration-wrong"),
    # A provider in trouble says nothing about a grant, whatever its body.
    (TOKEN, 500, error("invalid_grant"), {}, "server-error"),
    (TOKEN, 502, HTML, {"Content-Type": "text/html"}, "server-error"),
    (TOKEN, 503, error("invalid_grant"), {"Retry-After": "120"}, "server-error"),
    (TOKEN, 503, error("bad_refresh_token"), {}, "server-error"),
    (TOKEN, 504, error("invalid_client"), {}, "server-error"),
    (API, 599, {"error": {"code": "missing_scope"}}, {}, "server-error"),
    # A page for people: a proxy, a firewall or a maintenance page took the API's place.
    (TOKEN, 200, HTML, {"Content-Type": "text/html"}, "page-for-people"),
    (API, 200, HTML, {}, "page-for-people"),
    (API, 403, HTML, {"Content-Type": "text/html"}, "page-for-people"),
    (API, 401, HTML, {"Content-Type": "text/html"}, "page-for-people"),
    (TOKEN, 302, HTML, {"Content-Type": "text/html"}, "page-for-people"),
    (API, 404, HTML, {"Content-Type": "text/html"}, "not-here"),
    (API, 410, HTML, {"Content-Type": "text/html"}, "not-here"),
    # A page, and beside it the API's own word.
    (API, 401, HTML, {"WWW-Authenticate": 'Bearer error="invalid_token"'}, "token-not-accepted"),
    (API, 403, HTML, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}, "permission-missing"),
    # No OAuth error in sight: nothing is said about a grant.
    (TOKEN, 401, b"", {}, "wall"),
    (TOKEN, 403, {"message": "Forbidden"}, {}, "wall"),
    (TOKEN, 401, error("invalid_token"), {}, "wall"),
    (TOKEN, 403, error("insufficient_scope"), {}, "wall"),
    (TOKEN, 400, error("missing_scope"), {}, "error-unknown"),
    (TOKEN, 400, b"", {}, "status-unknown"),
    (TOKEN, 400, error("who_knows"), {}, "error-unknown"),
    # A success that cannot be read.
    (TOKEN, 200, b"", {}, "unreadable-success"),
    (TOKEN, 200, b'{"access_token": "a', {}, "unreadable-success"),
    (API, 200, b'{"items": [', {"Content-Type": "application/json"}, "unreadable-success"),
    # Too many calls, in each way that is known.
    (API, 429, b"", {}, "too-many-calls"),
    (TOKEN, 429, error("invalid_grant"), {}, "too-many-calls"),
    (API, 403, b"", {"Retry-After": "30"}, "quota-used-up"),
    (API, 403, {"message": "rate limit"}, {"X-Left": "0"}, "quota-used-up"),
    (API, 403, {"message": "no"}, {"X-Left": "12"}, "forbidden"),
    (API, 403, error("ratelimited"), {}, "throttled-by-word"),
    (API, 477, b"", {"Retry-After": "86400"}, "throttled-by-status"),
    # A code that means death, and a text that says: come back. Only the text of a refusal counts.
    (TOKEN, 400, error("invalid_grant", error_description="Request is already being processed"), {}, "busy-in-words"),
    (API, 403, {"message": "ALREADY BEING PROCESSED"}, {}, "busy-in-words"),
    (API, 200, {"note": "already being processed"}, {}, "success"),
    # An access token that is over, inside a 200; at the token endpoint the same word means nothing.
    (API, 200, error("token_expired"), {}, "token-not-accepted"),
    (TOKEN, 200, error("token_expired"), {}, "error-unknown"),
    # The rest.
    (API, 408, b"", {}, "come-back-later"),
    (API, 425, b"", {}, "come-back-later"),
    (API, 300, b"", {}, "redirected"),
    (API, 301, b"", {"Location": "https://elsewhere.example"}, "redirected"),
    (TOKEN, 307, b"", {"Location": "https://elsewhere.example"}, "redirected"),
    (API, 404, {"message": "Not Found"}, {}, "not-here"),
    (API, 410, b"", {}, "not-here"),
    (API, 418, b"", {}, "status-unknown"),
    (API, 400, {"message": "bad"}, {}, "status-unknown"),
]
SILENCE = [
    (Trouble.NOT_SENT, "DnsFailure", "dns-failure"),
    (Trouble.NOT_SENT, "TlsFailure", "tls-failure"),
    (Trouble.NOT_SENT, "ConnectError", "not-sent"),
    (Trouble.NOT_SENT, "ConnectTimeout", "not-sent"),
    (Trouble.NOT_SENT, "PoolTimeout", "not-sent"),
    (Trouble.LOST, "ReadTimeout", "answer-lost"),
    (Trouble.LOST, "WriteTimeout", "answer-lost"),
    (Trouble.LOST, "ReadError", "answer-lost"),
    (Trouble.LOST, "RemoteProtocolError", "answer-lost"),
    (Trouble.LOST, "Timeout", "answer-lost"),
    (Trouble.LOST, "BodyTooLarge", "answer-lost"),
    (Trouble.OURS, "UnsupportedProtocol", "ours-unsendable"),
]
MEANINGS = {
    "ours-unsendable": "operator_must_act",
    "dns-failure": "outage",
    "tls-failure": "outage",
    "not-sent": "outage",
    "answer-lost": "outage",
    "server-error": "outage",
    "too-many-calls": "throttled",
    "throttled-by-word": "throttled",
    "quota-used-up": "throttled",
    "throttled-by-status": "throttled",
    "busy-in-words": "retry",
    "grant-dead": "owner_must_act",
    "registration-wrong": "operator_must_act",
    "request-wrong": "operator_must_act",
    "provider-busy": "retry",
    "page-for-people": "outage",
    "permission-missing": "owner_must_act",
    "token-not-accepted": "owner_must_act",
    "forbidden": "owner_must_act",
    "wall": "unknown",
    "come-back-later": "retry",
    "unreadable-success": "outage",
    "success": "ok",
    "error-unknown": "unknown",
    "redirected": "unknown",
    "not-here": "unknown",
    "status-unknown": "unknown",
}
"""Written down a second time on purpose: a rule that changes its meaning changes what happens to people's grants."""


class TestAVerdict:
    @pytest.mark.parametrize(("endpoint", "status", "body", "headers", "rule"), ANSWERS)
    def test_of_an_answer_is_the_tables(
        self, endpoint: Endpoint, status: int, body: Any, headers: dict[str, str], rule: str
    ) -> None:
        verdict = judged(endpoint, status, body, headers)

        assert (verdict.rule, verdict.meaning) == (rule, MEANINGS[rule])
        assert verdict.because
        assert verdict.todo

    @pytest.mark.parametrize(("trouble", "kind", "rule"), SILENCE)
    @pytest.mark.parametrize("endpoint", Endpoint)
    def test_of_silence_is_the_tables(self, trouble: Trouble, kind: str, rule: str, endpoint: Endpoint) -> None:
        verdict = judge(Heard(trouble=trouble, trouble_kind=kind), WORDS, endpoint)

        assert (verdict.rule, verdict.meaning) == (rule, MEANINGS[rule])

    def test_has_an_example_for_every_rule(self) -> None:
        assert {rule.name for rule in RULES} == {*(a[-1] for a in ANSWERS), *(s[-1] for s in SILENCE)} == set(MEANINGS)

    def test_takes_a_providers_own_word_only_from_that_provider(self) -> None:
        assert judge(Heard(status=400, error="bad_refresh_token")).meaning is Meaning.UNKNOWN

    def test_of_a_file_that_is_a_page_is_a_success(self) -> None:
        heard, _ = hear(200, {"content-type": "text/html"}, HTML.encode(), AT, now=NOW, expects_json=False)

        assert judge(heard).meaning is Meaning.OK

    @pytest.mark.parametrize("status", [503, 429, 403, 408])
    @pytest.mark.parametrize("wait", ["7", "Thu, 01 Jan 2026 12:00:07 GMT"])
    def test_passes_on_how_long_the_provider_asked_to_wait(self, status: int, wait: str) -> None:
        assert judged(API, status, b"", {"Retry-After": wait}).after == timedelta(seconds=7)

    @pytest.mark.parametrize("wait", ["9999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
    def test_believes_no_absurd_wait(self, wait: str) -> None:
        assert judged(API, 503, b"", {"Retry-After": wait}).after == timedelta(hours=1)

    def test_that_is_unknown_passes_it_on_too(self) -> None:
        verdict = judged(TOKEN, 400, error("who_knows"), {"Retry-After": "7"})

        assert (verdict.meaning, verdict.after) == (Meaning.UNKNOWN, timedelta(seconds=7))

    @pytest.mark.parametrize("meaning", Meaning)
    def test_lets_the_same_call_be_repeated_only_when_time_alone_may_help(self, meaning: Meaning) -> None:
        helps = meaning in {Meaning.RETRY, Meaning.THROTTLED, Meaning.OUTAGE}

        assert Verdict(meaning=meaning, because="").is_transient is helps

    def test_of_a_success_asks_for_no_wait(self) -> None:
        assert judged(API, 200, {}, {"Retry-After": "60"}).after is None

    def test_repeats_no_words_of_the_provider(self) -> None:
        verdict = judged(API, 200, error("The token tok_abcdef of ada is dead"))

        assert IN_WORDS in verdict.because
        assert "tok_abcdef" not in verdict.model_dump_json()

    @given(st.integers(500, 599), st.text(max_size=40) | st.none(), st.sampled_from(Endpoint))
    def test_never_blames_the_grant_for_a_server_error(self, status: int, code: str | None, endpoint: Endpoint) -> None:
        every = frozenset({code}) if code else frozenset()
        words = Vocabulary(terminal=every, scope=every, operator=every, throttled=every, busy=every)

        assert judge(Heard(status=status, error=code), words, endpoint).meaning is Meaning.OUTAGE

    @given(st.integers(100, 599), st.text(max_size=20) | st.none())
    def test_of_the_token_endpoint_blames_the_owner_only_for_an_oauth_error(
        self, status: int, code: str | None
    ) -> None:
        verdict = judge(Heard(status=status, error=code), WORDS, TOKEN)

        blames = verdict.meaning is Meaning.OWNER_MUST_ACT
        assert not blames or code in {"invalid_grant", "bad_refresh_token"}

    @given(
        st.sampled_from([*Trouble, None]),
        st.integers(100, 599),
        st.text(max_size=20) | st.none(),
        st.sampled_from(Endpoint),
    )
    def test_there_is_for_everything_that_can_be_heard(
        self, trouble: Trouble | None, status: int, code: str | None, endpoint: Endpoint
    ) -> None:
        heard = Heard(status=None if trouble else status, error=code, trouble=trouble, trouble_kind="ReadError")

        assert judge(heard, WORDS, endpoint).rule in MEANINGS


class TestWhatWasHeard:
    def test_reads_as_status_and_code(self) -> None:
        assert Heard(status=400, error="invalid_grant").words == "400 invalid_grant"
        assert Heard(status=503).words == "503"
        assert Heard(trouble=Trouble.LOST, trouble_kind="ReadError").words == "no answer (ReadError)"
