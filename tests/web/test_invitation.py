"""The invitation and its button."""

import base64
import dataclasses
import hashlib
from datetime import timedelta
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from integrations.db.vault import digest, session_place
from starters.embedded.ports import free_port
from tests.web.conftest import PROVIDER, Serve, Site, press
from web.app import Platform
from web.invitation import COOKIE


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class TestOpeningAnInvitation:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_changes_nothing_however_often_a_mail_scanner_does_it(self, site: Site, method: str) -> None:
        invitation = await site.invite()
        before = await invitation.row()

        async with site.browser() as scanner:
            for path in (invitation.path, f"{invitation.path}/status", invitation.path):
                assert (await scanner.request(method, path)).status_code < 500

        assert await invitation.row() == before

    async def test_says_who_asks_for_what_and_why_and_shows_the_account_masked(self, site: Site) -> None:
        invitation = await site.invite(why="you took the grant back")

        async with site.browser() as browser:
            page = await browser.get(invitation.path)

        assert page.status_code == 200
        for words in ("Simulator", "ou took the grant back", "notes.read", "notes.write", "a••@acme.example"):
            assert words in page.text
        assert "ada@" not in page.text

    async def test_shows_hostile_text_as_text(self, site: Site) -> None:
        invitation = await site.invite(why="<script>alert(1)</script>", account='"><img src=x>@acme.example')

        async with site.browser() as browser:
            page = await browser.get(invitation.path)

        assert "<script" not in page.text
        assert "<img" not in page.text

    @pytest.mark.parametrize("token", ["A" * 43, "A" * 42, "A" * 44, "<script>alert(1)", "%00" * 43])
    async def test_of_nobody_is_a_page_that_says_what_to_do(self, site: Site, token: str) -> None:
        """Half of a link is what people copy out of a mail that was wrapped."""
        async with site.browser() as browser:
            for path in (f"/reconsent/{token}", f"/reconsent/{token}/status"):
                answer = await browser.get(path)

                assert answer.status_code == 404
                assert answer.headers["content-type"].startswith("text/html")
                assert "the whole link" in answer.text
                assert token not in answer.text


class TestPressingTheButton:
    async def test_leads_to_the_catalogs_address_with_a_state_and_an_s256_challenge(self, site: Site) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            pressed = await browser.post(invitation.path)

        assert pressed.status_code == 303
        address, _, query = pressed.headers["location"].partition("?")
        assert address == f"{PROVIDER}/oauth/authorize"
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        press = await invitation.press()
        assert asked == {
            "response_type": "code",
            "client_id": "runbook",
            "redirect_uri": f"{site.url}/oauth/callback/simulator",
            "scope": "notes.read notes.write",
            "state": asked["state"],
            "code_challenge": challenge_of(await invitation.verifier()),
            "code_challenge_method": "S256",
        }
        assert press.state_hash == digest(asked["state"])
        assert len(asked["state"]) >= 43  # 256 bits

    @pytest.mark.parametrize("answered", [0, 1], ids=["the first tab answers", "the second tab answers"])
    async def test_in_two_tabs_of_a_browser_takes_whichever_comes_back(self, site: Site, answered: int) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            states = [await press(browser, invitation), await press(browser, invitation)]
            taken = await browser.get("/oauth/callback/simulator", params={"state": states[answered], "code": "a"})
            late = await browser.get("/oauth/callback/simulator", params={"state": states[1 - answered], "code": "b"})

        assert states[0] != states[1]
        assert taken.headers["location"] == late.headers["location"] == f"{invitation.path}/status"
        row = await invitation.row()
        assert row["status"] == "received"
        assert site.vault.open(row["sealed_code"], row["key_id"], session_place(row["id"], "code")) == b"a"

    async def test_in_another_browser_does_not_void_what_the_first_one_is_about_to_answer(self, site: Site) -> None:
        invitation = await site.invite()

        async with site.browser() as phone, site.browser() as laptop:
            state = await press(phone, invitation)
            await press(laptop, invitation)
            stolen = await laptop.get("/oauth/callback/simulator", params={"state": state, "code": "a code"})
            taken = await phone.get("/oauth/callback/simulator", params={"state": state, "code": "a code"})

        assert (stolen.status_code, taken.status_code) == (400, 303)
        assert (await invitation.row())["status"] == "received"

    @pytest.mark.parametrize("cookie", ["short", "x" * 44, "é" * 43])
    async def test_does_not_take_just_anything_for_the_browsers_name(self, site: Site, cookie: str) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            pressed = await browser.post(invitation.path, headers={"cookie": f"{COOKIE}={cookie}".encode()})

        assert len(SimpleCookie(pressed.headers["set-cookie"])[COOKIE].value) == 43

    async def test_gives_the_browser_a_cookie_that_scripts_and_other_sites_do_not_get(self, site: Site) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            pressed = await browser.post(invitation.path)

        cookie = SimpleCookie(pressed.headers["set-cookie"])[COOKIE]
        assert cookie["httponly"]
        assert cookie["samesite"].lower() == "lax"
        assert cookie["max-age"] == "3600"
        assert (await invitation.press()).browser_hash == digest(cookie.value)

    async def test_goes_nowhere_else_whatever_the_request_says(self, site: Site) -> None:
        invitation = await site.invite()
        evil = "https://evil.example"
        wishes = {"next": evil, "redirect_uri": evil, "continue": evil}

        async with site.browser() as browser:
            pressed = await browser.post(
                invitation.path,
                params=wishes,
                data=wishes,
                headers={"host": "evil.example", "x-forwarded-host": "evil.example", "origin": evil},
            )
            opened = await browser.get(
                f"{invitation.path}/status", params=wishes, headers={"host": "evil.example", "x-forwarded-proto": "x"}
            )

        assert pressed.headers["location"].startswith(f"{PROVIDER}/oauth/authorize?")
        assert "evil" not in pressed.headers["location"]
        assert "evil" not in opened.text

    async def test_of_an_unknown_link_mints_nothing(self, site: Site) -> None:
        async with site.browser() as browser:
            pressed = await browser.post(f"/reconsent/{'A' * 43}")

        assert pressed.status_code == 404
        assert "location" not in pressed.headers
        assert "set-cookie" not in pressed.headers

    @pytest.mark.parametrize("status", ["received", "exchanging", "completed", "refused", "replaced", "expired"])
    async def test_after_the_invitation_was_answered_leads_to_the_status_and_mints_nothing(
        self, site: Site, status: str
    ) -> None:
        invitation = await site.invite()
        await invitation.set(status=status, outcome="it is over")
        before = await invitation.row()

        async with site.browser() as browser:
            pressed, opened = await browser.post(invitation.path), await browser.get(invitation.path)

        assert pressed.headers["location"] == opened.headers["location"] == f"{invitation.path}/status"
        assert await invitation.row() == before

    async def test_past_its_time_mints_nothing(self, site: Site) -> None:
        invitation = await site.invite(until=timedelta(seconds=-1))
        before = await invitation.row()

        async with site.browser() as browser:
            pressed = await browser.post(invitation.path)

        assert pressed.headers["location"] == f"{invitation.path}/status"
        assert await invitation.row() == before


class TestASiteBehindTls:
    async def test_keeps_cookie_and_callback_on_https(self, parts: Platform, serve: Serve) -> None:
        """The proxy speaks TLS; the app only knows its own address."""
        port = free_port()
        await serve(dataclasses.replace(parts, base_url=f"https://a.example:{port}"))
        behind = Site(f"http://127.0.0.1:{port}", parts.sessions, parts.vault)
        invitation = await behind.invite()

        async with behind.browser() as browser:
            pressed = await browser.post(invitation.path)

        assert SimpleCookie(pressed.headers["set-cookie"])[COOKIE]["secure"]
        assert pressed.headers["strict-transport-security"]
        back = httpx.URL(pressed.headers["location"]).params["redirect_uri"]
        assert urlsplit(back).scheme == "https"
