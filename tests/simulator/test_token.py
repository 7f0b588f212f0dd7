import asyncio
import base64
from urllib.parse import quote

import httpx
import pytest

from simulator.grants import CODE_LIFE_S, Code, Grants
from simulator.store import Store
from tests.simulator.conftest import CLIENT, Simulator, asked, bearer, returned


async def is_alive(simulator: Simulator, token: dict[str, str]) -> bool:
    return (await simulator.me(token["access_token"])).status_code == 200


def assert_error(answer: httpx.Response, status: int, error: str) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, error)


class TestExchange:
    async def test_answers_a_pair_of_tokens_that_nothing_may_cache(self, simulator: Simulator) -> None:
        request = asked("profile notes.read")

        answer = await simulator.exchange(request, await simulator.consent(request))

        assert answer.headers["cache-control"] == "no-store"
        token = answer.json()
        assert token.pop("access_token").startswith("sim_at_")
        assert token.pop("refresh_token").startswith("sim_rt_")
        assert token == {"token_type": "Bearer", "expires_in": 3600, "scope": "profile notes.read"}
        assert (await simulator.last("/oauth/token"))["detail"]["pkce"] == "verified"

    @pytest.mark.parametrize(
        ("verifier", "error"), [("wrong" * 10, "invalid_grant"), ("short", "invalid_request"), ("", "invalid_request")]
    )
    async def test_needs_the_verifier_of_the_challenge(self, simulator: Simulator, verifier: str, error: str) -> None:
        request = asked()

        answer = await simulator.exchange(request, await simulator.consent(request), code_verifier=verifier)

        assert_error(answer, 400, error)
        assert (await simulator.last("/oauth/token"))["detail"]["pkce"] == "failed"

    async def test_needs_the_address_the_code_was_sent_to(self, simulator: Simulator) -> None:
        request = asked()
        redirect = await simulator.consent(request)

        for elsewhere in ("", "http://127.0.0.1:9/elsewhere"):
            assert_error(await simulator.exchange(request, redirect, redirect_uri=elsewhere), 400, "invalid_grant")

    async def test_a_second_use_of_a_code_takes_its_tokens_down(self, simulator: Simulator) -> None:
        request = asked()
        redirect = await simulator.consent(request)
        token = (await simulator.exchange(request, redirect)).json()
        assert await is_alive(simulator, token)

        again = await simulator.exchange(request, redirect)

        assert_error(again, 400, "invalid_grant")
        assert (await simulator.last("/oauth/token"))["detail"]["code"] == "reuse"
        assert not await is_alive(simulator, token)
        assert_error(await simulator.refresh(token["refresh_token"]), 400, "invalid_grant")

    async def test_a_code_dies_after_a_minute(self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        assert CODE_LIFE_S == 60
        monkeypatch.setattr("simulator.oauth_grants.CODE_LIFE_S", 0)
        request = asked()

        answer = await simulator.exchange(request, await simulator.consent(request))

        assert_error(answer, 400, "invalid_grant")
        assert (await simulator.last("/oauth/token"))["detail"]["code"] == "expired"

    async def test_without_pkce_required_a_verifier_nobody_asked_for_is_ignored(self, simulator: Simulator) -> None:
        await simulator.settings(pkce_required=False)
        request = asked(pkce=False)

        answer = await simulator.exchange(request, await simulator.consent(request))

        assert answer.status_code == 200
        assert (await simulator.last("/oauth/token"))["detail"]["pkce"] == "absent"

    async def test_a_code_without_challenge_dies_when_pkce_becomes_required(self, simulator: Simulator) -> None:
        await simulator.settings(pkce_required=False)
        request = asked(pkce=False)
        redirect = await simulator.consent(request)
        await simulator.settings(pkce_required=True)

        for verifier in (request.verifier, ""):
            answer = await simulator.exchange(request, redirect, code_verifier=verifier)
            assert_error(answer, 400, "invalid_request")

    async def test_may_keep_to_itself_what_was_allowed(self, simulator: Simulator) -> None:
        await simulator.settings(echo_scope=False)

        token = await simulator.connect("profile notes.read")
        refreshed = (await simulator.refresh(token["refresh_token"])).json()
        own = (await simulator.token(grant_type="client_credentials", scope="notes.read")).json()

        for answer in (token, refreshed, own):
            assert answer.keys() >= {"access_token", "expires_in"}
            assert "scope" not in answer
        assert await is_alive(simulator, refreshed)
        assert (await simulator.http.get("/api/notes", headers=bearer(own["access_token"]))).status_code == 200


class TestClientAuthentication:
    async def test_takes_the_secret_from_the_body_too(self, simulator: Simulator) -> None:
        token = await simulator.connect()

        answer = await simulator.token(
            None,
            grant_type="refresh_token",
            refresh_token=token["refresh_token"],
            client_id=CLIENT[0],
            client_secret=CLIENT[1],
        )

        assert answer.status_code == 200

    @pytest.mark.parametrize("client", [(CLIENT[0], "wrong"), ("nobody", CLIENT[1]), ("é", "ü")])
    async def test_refuses_a_wrong_secret_either_way(self, simulator: Simulator, client: tuple[str, str]) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": "sim_rt_any"}

        basic = await simulator.token(client, **form)
        post = await simulator.token(None, **form, client_id=client[0], client_secret=client[1])

        assert_error(basic, 401, "invalid_client")
        assert_error(post, 401, "invalid_client")
        assert basic.headers["www-authenticate"].startswith("Basic ")

    @pytest.mark.parametrize("header", ["Basic", "Basic é", "Basic !!!", "Basic /////w==", "Bearer x"])
    async def test_refuses_a_header_that_is_none(self, simulator: Simulator, header: str) -> None:
        answer = await simulator.http.post(
            "/oauth/token", data={"grant_type": "refresh_token"}, headers={"Authorization": header.encode()}
        )

        assert_error(answer, 401, "invalid_client")

    async def test_reads_an_encoded_basic_header(self, simulator: Simulator) -> None:
        encoded = base64.b64encode(f"{quote(CLIENT[0])}:{quote(CLIENT[1])}".encode()).decode()

        answer = await simulator.http.post(
            "/oauth/token",
            data={"grant_type": "refresh_token", "refresh_token": "unknown-token"},
            headers={"Authorization": f"Basic {encoded}"},
        )

        assert_error(answer, 400, "invalid_grant")

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ("", "invalid_request"),
            ("grant_type=password", "unsupported_grant_type"),
            ("grant_type=refresh_token", "invalid_request"),
            ("grant_type=authorization_code", "invalid_request"),
            ("grant_type=refresh_token&refresh_token=x&refresh_token=y", "invalid_request"),
            ("grant_type=refresh_token&refresh_token=x&a%22%5C=1&a%22%5C=1", "invalid_request"),
        ],
    )
    async def test_malformed_requests_have_their_own_errors(self, simulator: Simulator, body: str, error: str) -> None:
        answer = await simulator.http.post("/oauth/token", content=body, auth=CLIENT)

        assert_error(answer, 400, error)


class TestRotation:
    async def test_each_refresh_answers_a_new_pair(self, simulator: Simulator) -> None:
        first = await simulator.connect("profile notes.read")

        second = (await simulator.refresh(first["refresh_token"])).json()

        assert second["refresh_token"] != first["refresh_token"]
        assert second["access_token"] != first["access_token"]
        assert second["scope"] == "profile notes.read"
        assert await is_alive(simulator, second)
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "rotated"

    async def test_within_grace_the_predecessor_is_answered_with_the_same_pair(self, simulator: Simulator) -> None:
        first = await simulator.connect()
        second = (await simulator.refresh(first["refresh_token"])).json()

        again = (await simulator.refresh(first["refresh_token"])).json()

        assert (again["access_token"], again["refresh_token"]) == (second["access_token"], second["refresh_token"])
        assert again["scope"] == second["scope"]
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "grace"

    async def test_concurrent_refreshes_with_one_token_get_one_pair(self, simulator: Simulator) -> None:
        first = await simulator.connect()

        answers = await asyncio.gather(*(simulator.refresh(first["refresh_token"]) for _ in range(8)))

        assert len({answer.json()["refresh_token"] for answer in answers}) == 1

    async def test_after_grace_reuse_kills_the_grant(self, simulator: Simulator) -> None:
        await simulator.settings(rotation_grace_s=0)
        first = await simulator.connect()
        second = (await simulator.refresh(first["refresh_token"])).json()

        assert_error(await simulator.refresh(first["refresh_token"]), 400, "invalid_grant")

        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "reuse"
        assert not await is_alive(simulator, second)
        assert_error(await simulator.refresh(second["refresh_token"]), 400, "invalid_grant")
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "revoked"

    async def test_an_older_token_is_reuse_even_within_grace(self, simulator: Simulator) -> None:
        first = await simulator.connect()
        second = (await simulator.refresh(first["refresh_token"])).json()
        third = (await simulator.refresh(second["refresh_token"])).json()

        assert_error(await simulator.refresh(first["refresh_token"]), 400, "invalid_grant")

        assert not await is_alive(simulator, third)

    async def test_without_reuse_detection_the_grant_survives_it(self, simulator: Simulator) -> None:
        await simulator.settings(rotation_grace_s=0, reuse_detection=False)
        first = await simulator.connect()
        second = (await simulator.refresh(first["refresh_token"])).json()

        assert_error(await simulator.refresh(first["refresh_token"]), 400, "invalid_grant")

        assert await is_alive(simulator, second)
        third = (await simulator.refresh(second["refresh_token"])).json()
        assert_error(await simulator.refresh(first["refresh_token"]), 400, "invalid_grant")
        assert await is_alive(simulator, third)

    async def test_without_rotation_the_refresh_token_stays(self, simulator: Simulator) -> None:
        await simulator.settings(rotate=False)
        first = await simulator.connect()

        for _ in range(2):
            answer = (await simulator.refresh(first["refresh_token"])).json()
            assert "refresh_token" not in answer
            assert await is_alive(simulator, answer)

    async def test_a_refresh_token_can_have_an_end(self, simulator: Simulator) -> None:
        await simulator.settings(refresh_token_ttl=1)
        first = await simulator.connect()
        await simulator.settings(refresh_token_ttl=None)
        await asyncio.sleep(1.01)

        assert_error(await simulator.refresh(first["refresh_token"]), 400, "invalid_grant")
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "expired"

    async def test_may_ask_for_less_and_not_for_more(self, simulator: Simulator) -> None:
        first = await simulator.connect("profile notes.read")
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}

        more = await simulator.token(**form, scope="profile notes.write")
        less = (await simulator.token(**form, scope="profile")).json()
        after = (await simulator.refresh(less["refresh_token"])).json()

        assert_error(more, 400, "invalid_scope")
        assert less["scope"] == "profile"
        assert after["scope"] == "profile notes.read"


class TestRevocation:
    @pytest.mark.parametrize("which", ["access_token", "refresh_token"])
    async def test_either_token_takes_the_grant_down(self, simulator: Simulator, which: str) -> None:
        token = await simulator.connect()

        answer = await simulator.http.post(
            "/oauth/revoke", data={"token": token[which], "token_type_hint": "whatever"}, auth=CLIENT
        )

        assert answer.status_code == 200
        assert not await is_alive(simulator, token)
        assert_error(await simulator.refresh(token["refresh_token"]), 400, "invalid_grant")
        assert (await simulator.last("/oauth/revoke"))["account_id"] == "acct_ada"

    async def test_an_unknown_token_is_revoked_already(self, simulator: Simulator) -> None:
        answer = await simulator.http.post("/oauth/revoke", data={"token": "unknown-token"}, auth=CLIENT)

        assert answer.status_code == 200

    async def test_needs_the_client_and_a_token(self, simulator: Simulator) -> None:
        token = await simulator.connect()

        stranger = await simulator.http.post("/oauth/revoke", data={"token": token["access_token"]})
        nothing = await simulator.http.post("/oauth/revoke", data={}, auth=CLIENT)

        assert_error(stranger, 401, "invalid_client")
        assert_error(nothing, 400, "invalid_request")
        assert await is_alive(simulator, token)


def test_a_code_opens_one_grant_and_remembers_it() -> None:
    store = Store(None)
    grants = Grants(store)
    code = Code("sim_ac_x", "acct_ada", "client", "http://cb", "profile", None, expires_at=100)
    grants.save_code(code)

    grant_id = grants.open(code, now=50)

    spent = grants.code("sim_ac_x")
    assert spent is not None
    assert spent.grant_id == grant_id
    store.close()


async def test_codes_are_returned_by_redirect_only(simulator: Simulator) -> None:
    request = asked()
    redirect = await simulator.consent(request)

    assert redirect.text == ""
    assert returned(redirect).keys() == {"code", "state"}
