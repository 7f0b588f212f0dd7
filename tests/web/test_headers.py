"""What every answer carries, and what none does."""

import logging
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.web.conftest import PROVIDER, Site
from web.wiring import served

NOT_OURS = ("httpx", "httpcore", "uvicorn.access")
"""The browser of the tests, and what pytest alone hears: it listens to loggers that are turned off. The log of a real
process is read in tests/browser."""
CODE = "an-authorization-code-of-the-simulator"
EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
}


class TestEveryAnswer:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/healthz", 404),
            ("/static/style.css", 200),
            ("/static/nothing.css", 404),
            ("/nowhere", 404),
            (f"/reconsent/{'A' * 43}", 404),
            ("/oauth/callback/simulator", 400),
        ],
    )
    async def test_carries_the_security_headers(self, site: Site, path: str, status: int) -> None:
        async with site.browser() as browser:
            answer = await browser.get(path)

        assert answer.status_code == status
        self.is_guarded(answer)

    async def test_carries_them_in_the_flow_too(self, site: Site) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            answers = [await browser.get(invitation.path), await browser.post(invitation.path)]
            state = httpx.URL(answers[-1].headers["location"]).params["state"]
            answers.append(await browser.get("/oauth/callback/simulator", params={"state": state, "code": CODE}))
            answers.append(await browser.get(f"{invitation.path}/status"))
            answers.append(await browser.request("DELETE", invitation.path))

        for answer in answers:
            self.is_guarded(answer)

    async def test_carries_them_when_something_breaks(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Even then: the address that broke may hold a code."""
        invitation = await site.invite()
        monkeypatch.setattr("web.invitation.page", lambda *_, **__: 1 / 0)

        async with site.browser() as browser:
            answer = await browser.get(invitation.path)

        assert answer.status_code == 500
        self.is_guarded(answer)

    async def test_lets_a_form_lead_to_the_provider_and_wherever_that_leads_on(self, site: Site) -> None:
        """Browsers apply form-action to each redirect behind a form: otherwise the button is dead."""
        invitation = await site.invite()

        async with site.browser() as browser:
            policy = (await browser.get(invitation.path)).headers["content-security-policy"]

        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["form-action"].split() == ["'self'", "https:", PROVIDER]
        assert rules["default-src"] == "'none'"
        assert rules["frame-ancestors"] == "'none'"
        assert "script-src" not in rules

    @staticmethod
    def is_guarded(answer: httpx.Response) -> None:
        assert EVERYWHERE.items() <= dict(answer.headers).items()
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


class TestASecret:
    async def test_stands_in_no_log_and_in_no_header_but_the_one_that_carries_it(
        self, site: Site, dark_site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With Temporal up, and down: then there is something to complain about."""
        caplog.set_level(logging.DEBUG)
        for answered in (site, dark_site):
            invitation = await answered.invite()
            with capture_logs() as events:
                async with answered.browser() as browser:
                    pressed = await browser.post(invitation.path)
                    state = httpx.URL(pressed.headers["location"]).params["state"]
                    verifier = await invitation.verifier()
                    query = {"state": state, "code": CODE}
                    wrong = await browser.get("/oauth/callback/another", params=query)
                    back = await browser.get("/oauth/callback/simulator", params=query)
                    late = await browser.get("/oauth/callback/simulator", params=query)
                    opened = [await browser.get(path) for path in (invitation.path, f"{invitation.path}/status")]

            secrets = {"state": state, "code": CODE, "verifier": verifier, "token": invitation.token}
            assert len([event for event in events if event["event"] == "request.answered"]) == 6
            lines = [str(event) for event in events]
            lines += [record.getMessage() for record in caplog.records if not record.name.startswith(NOT_OURS)]
            assert not [line for line in lines if self.holds(line, *secrets.values())]
            for answer in (pressed, wrong, back, late, *opened):
                self.has_no_secret_in_its_headers(answer, secrets, may_redirect_with=answer is pressed)
                assert not self.holds(answer.text, state, CODE, verifier)

    @classmethod
    def has_no_secret_in_its_headers(
        cls, answer: httpx.Response, secrets: dict[str, str], *, may_redirect_with: bool
    ) -> None:
        for name, value in answer.headers.items():
            allowed = set()
            if name == "location":
                allowed = {"state"} if may_redirect_with else {"token"}
            assert not cls.holds(value, *(secret for what, secret in secrets.items() if what not in allowed)), name

    @staticmethod
    def holds(text: str, *secrets: str) -> bool:
        return any(secret in text or quote(secret) in text for secret in secrets)


def test_those_of_a_request_are_bounded_whatever_else_is_installed() -> None:
    """By h11. Where httptools can be imported, uvicorn would take that, and it bounds nothing."""
    config = served(FastAPI(), "127.0.0.1", 0)
    config.load()

    assert config.http_protocol_class is H11Protocol
    assert config.http == "h11"
