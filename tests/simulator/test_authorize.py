from urllib.parse import urlencode

import pytest

from simulator.login import safe_continuation
from tests.simulator.conftest import CALLBACK, Simulator, asked, field, returned


class TestAuthorization:
    async def test_leads_through_login_and_consent_to_a_code(self, simulator: Simulator) -> None:
        request = asked()

        login = await simulator.open(request)
        consent = await simulator.log_in(login)
        redirect = await simulator.decide(request, consent, decision="allow", scope=["profile"])

        assert 'type="password"' in login.text
        assert "The Runbook" in consent.text
        assert "ada@acme.example" in consent.text
        assert "Write notes in your name" in consent.text
        assert returned(redirect)["state"] == request.state
        assert returned(redirect)["code"].startswith("sim_ac_")

    async def test_asks_only_for_consent_while_the_session_lasts(self, simulator: Simulator) -> None:
        await simulator.consent(asked())

        page = await simulator.open(asked())

        assert 'value="allow"' in page.text
        assert (await simulator.last("/oauth/authorize"))["detail"] == {
            "pkce": "S256",
            "scope": "profile notes.read notes.write",
            "prompted": "consent",
        }

    async def test_another_account_can_be_used(self, simulator: Simulator) -> None:
        request = asked()
        consent = await simulator.log_in(await simulator.open(request))
        link = consent.text.split('<a href="/logout')[1].split('"')[0].replace("&amp;", "&")

        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in simulator.http.cookies.items())}
        login = await simulator.http.get(f"/logout{link}", follow_redirects=True)
        with_the_old_cookie = await simulator.http.get(f"/oauth/authorize?{urlencode(request.query)}", headers=cookie)
        consent = await simulator.log_in(login, "bob")

        assert 'type="password"' in login.text
        assert 'type="password"' in with_the_old_cookie.text
        assert "bob@other.example" in consent.text

    async def test_refuses_a_wrong_password(self, simulator: Simulator) -> None:
        page = await simulator.open(asked())
        form = {"continue": field(page.text, "continue"), "email": "ada@acme.example", "password": "bob"}

        answer = await simulator.http.post("/login", data=form)

        assert answer.status_code == 401
        assert "do not belong together" in answer.text
        assert "set-cookie" not in answer.headers

    async def test_deny_returns_access_denied_with_the_state(self, simulator: Simulator) -> None:
        request = asked()
        consent = await simulator.log_in(await simulator.open(request))

        redirect = await simulator.decide(request, consent, decision="deny", scope=["profile"])

        assert returned(redirect)["error"] == "access_denied"
        assert returned(redirect)["state"] == request.state

    async def test_asking_for_no_scope_asks_for_the_profile(self, simulator: Simulator) -> None:
        request = asked("")

        token = (await simulator.exchange(request, await simulator.consent(request))).json()

        assert token["scope"] == "profile"

    async def test_allowing_nothing_is_denying(self, simulator: Simulator) -> None:
        redirect = await simulator.consent(asked(), scopes="")

        assert returned(redirect)["error"] == "access_denied"

    async def test_grants_only_the_scopes_that_stayed_ticked(self, simulator: Simulator) -> None:
        request = asked("profile notes.read")

        redirect = await simulator.consent(request, scopes="notes.read notes.write")
        token = (await simulator.exchange(request, redirect)).json()

        assert token["scope"] == "notes.read"

    async def test_refuses_a_consent_form_without_the_session_s_csrf_token(self, simulator: Simulator) -> None:
        request = asked()
        consent = await simulator.log_in(await simulator.open(request))

        answer = await simulator.decide(request, consent, decision="allow", scope=["profile"], csrf="guessed")

        assert answer.status_code == 403
        assert "location" not in answer.headers


class TestRefusedRequests:
    @pytest.mark.parametrize(
        "changes",
        [
            {"client_id": "somebody-else"},
            {"client_id": ""},
            {"redirect_uri": "https://evil.example/cb"},
            {"redirect_uri": f"{CALLBACK}/more"},
            {"redirect_uri": f"{CALLBACK}?more"},
            {"redirect_uri": ""},
            {"redirect_uri": 'http://"\\é'},
            {"response_type": 'code"\\é'},
        ],
    )
    async def test_never_redirect_for_an_unknown_client_or_address(
        self, simulator: Simulator, changes: dict[str, str]
    ) -> None:
        answer = await simulator.open(asked(**changes))

        assert answer.status_code == 400
        assert "location" not in answer.headers
        assert "This link cannot be used" in answer.text

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"scope": "everything"}, "invalid_scope"),
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge_method": ""}, "invalid_request"),
        ],
    )
    async def test_tell_the_application_what_it_did_wrong(
        self, simulator: Simulator, changes: dict[str, str], error: str
    ) -> None:
        request = asked(**changes)

        redirect = await simulator.open(request)

        assert returned(redirect)["error"] == error
        assert returned(redirect)["state"] == request.state

    async def test_a_request_without_any_challenge_is_refused(self, simulator: Simulator) -> None:
        redirect = await simulator.open(asked(pkce=False))

        assert returned(redirect)["error"] == "invalid_request"

    async def test_repeated_parameters_are_refused(self, simulator: Simulator) -> None:
        answer = await simulator.http.get(f"/oauth/authorize?{urlencode(asked().query)}&state=another")

        assert answer.status_code == 400


class TestContinuation:
    @pytest.mark.parametrize(
        "wanted",
        [
            "https://evil.example/",
            "//evil.example/oauth/authorize",
            "/\\evil.example",
            "/admin/secrets",
            "/oauth/authorize/../../admin",
            "http://[",
            "",
        ],
    )
    async def test_login_and_logout_lead_nowhere_else(self, simulator: Simulator, wanted: str) -> None:
        form = {"continue": wanted, "email": "ada@acme.example", "password": "ada"}

        login = await simulator.http.post("/login", data=form)
        logout = await simulator.http.get("/logout", params={"continue": wanted})

        for answer in (login, logout):
            assert answer.status_code == 400
            assert "location" not in answer.headers
            assert "continue" in answer.text

    def test_only_the_query_of_the_wanted_address_is_kept(self) -> None:
        assert safe_continuation("/oauth/\tauthorize?a=1#//evil.example") == "/oauth/authorize?a=1"
