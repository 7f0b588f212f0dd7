"""The vendors' documented oddities, as raw answers against the built-in catalog.

Each entry's `docs` name the pages. Answers that no page shows are of the shape that a page describes.
"""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from integrations.domain.answer import hear
from integrations.domain.verdict import Endpoint, Verdict, judge
from integrations.providers import catalog
from integrations.providers.entry import Provider

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOKEN, API = Endpoint.TOKEN, Endpoint.API
KNOWN = catalog.load(host="http://127.0.0.1:1", environment={})


def judged(provider: str, endpoint: Endpoint, status: int, body: Any, headers: dict[str, str]) -> Verdict:
    known = KNOWN.provider(provider)
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    heard, _ = hear(status, httpx.Headers(headers), raw, known.reading, now=NOW)
    return judge(heard, known.vocabulary, endpoint)


def google(reason: str, status: str = "PERMISSION_DENIED") -> dict[str, Any]:
    return {"error": {"code": 403, "status": status, "errors": [{"domain": "global", "reason": reason}]}}


def google_rpc(reason: str, status: str) -> dict[str, Any]:
    return {"error": {"code": 403, "status": status, "details": [{"@type": "ErrorInfo", "reason": reason}]}}


def meta(code: int, subcode: int | None = None) -> dict[str, Any]:
    return {"error": {"message": "m", "type": "OAuthException", "code": code, "error_subcode": subcode}}


def slack(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error}


ANSWERS = [
    ("github", TOKEN, 200, {"error": "bad_refresh_token"}, {}, "grant-dead"),
    ("github", TOKEN, 200, {"error": "bad_verification_code"}, {}, "grant-dead"),
    ("github", TOKEN, 200, {"error": "incorrect_client_credentials"}, {}, "registration-wrong"),
    ("github", API, 401, {"message": "Bad credentials"}, {}, "token-not-accepted"),
    ("github", API, 403, {"message": "API rate limit exceeded"}, {"X-RateLimit-Remaining": "0"}, "quota-used-up"),
    ("github", API, 403, {"message": "You have exceeded a secondary rate limit"}, {}, "busy-in-words"),
    ("github", API, 403, {"message": "no"}, {"Retry-After": "60"}, "quota-used-up"),
    ("github", API, 403, {"message": "Resource not accessible"}, {"X-RateLimit-Remaining": "4000"}, "forbidden"),
    ("google-gmail", TOKEN, 400, {"error": "invalid_grant", "error_subtype": "invalid_rapt"}, {}, "grant-dead"),
    ("google-gmail", TOKEN, 400, {"error": "admin_policy_enforced"}, {}, "grant-dead"),
    ("google-gmail", TOKEN, 401, {"error": "deleted_client"}, {}, "registration-wrong"),
    ("google-gmail", API, 403, google("rateLimitExceeded"), {}, "throttled-by-word"),
    ("google-gmail", API, 403, google("userRateLimitExceeded"), {}, "throttled-by-word"),
    ("google-gmail", API, 403, google("dailyLimitExceeded"), {}, "throttled-by-word"),
    ("google-gmail", API, 403, google("domainPolicy"), {}, "forbidden"),
    ("google-gmail", API, 403, google("insufficientPermissions"), {}, "permission-missing"),
    ("google-calendar", API, 403, google("quotaExceeded"), {}, "throttled-by-word"),
    ("google-docs", API, 403, google_rpc("SERVICE_DISABLED", "PERMISSION_DENIED"), {}, "registration-wrong"),
    (
        "google-docs",
        API,
        403,
        google_rpc("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "PERMISSION_DENIED"),
        {},
        "permission-missing",
    ),
    ("google-docs", API, 401, google("authError", "UNAUTHENTICATED"), {}, "token-not-accepted"),
    ("google-drive", API, 503, google("backendError", "UNAVAILABLE"), {}, "server-error"),
    ("google-shopping", API, 401, google_rpc("GCP_NOT_REGISTERED", "UNAUTHENTICATED"), {}, "registration-wrong"),
    ("slack", TOKEN, 200, slack("invalid_refresh_token"), {}, "grant-dead"),
    ("slack", TOKEN, 200, slack("bad_client_secret"), {}, "registration-wrong"),
    ("slack", API, 200, slack("token_revoked"), {}, "grant-dead"),
    ("slack", API, 200, slack("account_inactive"), {}, "grant-dead"),
    ("slack", API, 200, slack("token_expired"), {}, "token-not-accepted"),
    ("slack", API, 200, slack("missing_scope"), {}, "permission-missing"),
    ("slack", API, 200, slack("ratelimited"), {}, "throttled-by-word"),
    ("slack", API, 200, slack("internal_error"), {}, "provider-busy"),
    ("slack", API, 200, slack("team_added_to_org"), {}, "provider-busy"),
    ("slack", API, 200, slack("channel_not_found"), {}, "error-unknown"),
    ("slack", API, 200, {"ok": True}, {}, "success"),
    ("slack", API, 429, slack("ratelimited"), {"Retry-After": "30"}, "too-many-calls"),
    ("microsoft", TOKEN, 400, {"error": "interaction_required", "error_codes": [50079]}, {}, "grant-dead"),
    ("microsoft", TOKEN, 400, {"error": "consent_required", "error_codes": [65001]}, {}, "grant-dead"),
    ("microsoft", TOKEN, 400, {"error": "temporarily_unavailable"}, {}, "provider-busy"),
    ("microsoft", TOKEN, 400, {"error": "invalid_resource"}, {}, "registration-wrong"),
    ("microsoft", API, 429, {"error": {"code": "accessDenied"}}, {"Retry-After": "10"}, "too-many-calls"),
    ("microsoft", API, 403, {"error": {"code": "ErrorAccessDenied"}}, {}, "permission-missing"),
    ("microsoft", API, 401, {"error": {"code": "InvalidAuthenticationToken"}}, {}, "token-not-accepted"),
    ("hubspot", TOKEN, 400, {"error": "invalid_grant", "status": "BAD_REFRESH_TOKEN"}, {}, "grant-dead"),
    ("hubspot", API, 403, {"status": "error", "category": "MISSING_SCOPES"}, {}, "permission-missing"),
    ("hubspot", API, 477, {}, {"Retry-After": "86400"}, "throttled-by-status"),
    ("hubspot", API, 423, {}, {}, "throttled-by-status"),
    ("hubspot", API, 200, {"status": "COMPLETE", "results": []}, {}, "success"),
    (
        "salesforce",
        TOKEN,
        400,
        {"error": "invalid_grant", "error_description": "expired access/refresh token"},
        {},
        "grant-dead",
    ),
    (
        "salesforce",
        TOKEN,
        400,
        {"error": "invalid_grant", "error_description": "token request is already being processed"},
        {},
        "busy-in-words",
    ),
    ("salesforce", TOKEN, 400, {"error": "inactive_user"}, {}, "grant-dead"),
    ("salesforce", TOKEN, 400, {"error": "rate_limit_exceeded"}, {}, "throttled-by-word"),
    ("salesforce", API, 403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED"}], {}, "throttled-by-word"),
    ("salesforce", API, 401, [{"errorCode": "INVALID_SESSION_ID"}], {}, "token-not-accepted"),
    ("salesforce", API, 200, [], {}, "success"),
    ("shopify", API, 200, {"errors": [{"extensions": {"code": "THROTTLED"}}]}, {}, "throttled-by-word"),
    ("shopify", API, 200, {"errors": [{"extensions": {"code": "ACCESS_DENIED"}}]}, {}, "permission-missing"),
    ("shopify", API, 200, {"data": {"shop": {}}}, {}, "success"),
    ("shopify", API, 430, "", {}, "throttled-by-status"),
    ("shopify", API, 401, {"errors": "[API] Invalid API key or access token"}, {}, "token-not-accepted"),
    ("stripe", API, 429, {"error": {"code": "lock_timeout", "type": "invalid_request_error"}}, {}, "too-many-calls"),
    ("facebook", API, 400, meta(190, 460), {}, "grant-dead"),
    ("facebook", TOKEN, 400, meta(190, 463), {}, "grant-dead"),
    ("facebook", API, 400, meta(1), {}, "provider-busy"),
    ("facebook", API, 403, meta(4), {}, "throttled-by-word"),
    ("facebook", API, 403, meta(200), {}, "permission-missing"),
    ("facebook", API, 403, meta(299), {}, "permission-missing"),
    ("facebook", API, 500, meta(190), {}, "server-error"),
    ("instagram", API, 400, meta(190), {}, "grant-dead"),
    ("tiktok", API, 200, {"data": {}, "error": {"code": "ok", "message": ""}}, {}, "success"),
    ("tiktok", API, 401, {"error": {"code": "scope_not_authorized"}}, {}, "permission-missing"),
    ("tiktok", API, 401, {"error": {"code": "access_token_invalid"}}, {}, "token-not-accepted"),
    ("tiktok", TOKEN, 200, {"error": "invalid_grant"}, {}, "grant-dead"),
    ("pinterest", API, 401, {"code": 2, "message": "Authentication failed."}, {}, "token-not-accepted"),
    ("amazon", API, 401, {"code": "UNAUTHORIZED", "details": "d"}, {}, "token-not-accepted"),
    ("workday", API, 404, {"error": "not found", "code": "S21"}, {}, "error-unknown"),
    ("xero", API, 401, {"Detail": "AuthorizationUnsuccessful"}, {}, "permission-missing"),
    ("xero", API, 401, {"Detail": "TokenExpired: token expired at 01/01/2026"}, {}, "token-not-accepted"),
    ("quickbooks", API, 200, {"Fault": {"Error": [{"code": "2500"}]}}, {}, "error-unknown"),
    ("quickbooks", API, 401, {"fault": {"error": [{"code": "3200"}]}}, {}, "token-not-accepted"),
    ("quickbooks", TOKEN, 400, {"error": "invalid_grant"}, {}, "grant-dead"),
]


class TestAVendor:
    @pytest.mark.parametrize(("provider", "endpoint", "status", "body", "headers", "rule"), ANSWERS)
    def test_is_understood(
        self, provider: str, endpoint: Endpoint, status: int, body: Any, headers: dict[str, str], rule: str
    ) -> None:
        assert judged(provider, endpoint, status, body, headers).rule == rule

    def test_is_there_with_an_example(self) -> None:
        assert {answer[0] for answer in ANSWERS} == {p.id for p in KNOWN} - {"simulator"}


@pytest.mark.parametrize("entry", list(KNOWN), ids=lambda entry: entry.id)
class TestAnEntry:
    def test_names_the_pages_that_it_rests_on(self, entry: Provider) -> None:
        assert entry.id == "simulator" or entry.docs
        assert all(page.startswith("https://") for page in entry.docs)

    def test_has_no_word_with_two_meanings(self, entry: Provider) -> None:
        words = entry.vocabulary
        kinds = [words.none, words.terminal, words.scope, words.token, words.operator, words.throttled, words.busy]

        assert len(frozenset().union(*kinds)) == sum(map(len, kinds))

    def test_proves_each_capability_without_what_only_some_calls_need(self, entry: Provider) -> None:
        for capability in entry.capabilities.values():
            for name in entry.placeholders(capability.probe.url):
                variable = entry.variables[name]
                assert variable.required or variable.default is not None

    def test_renews_its_tokens_in_time(self, entry: Provider) -> None:
        assert entry.assumed_life is None or entry.refresh_lead < entry.assumed_life / 2
