import httpx
import pytest

from tests.simulator.conftest import CLIENT, Simulator, bearer


async def own_token(simulator: Simulator, **form: str) -> httpx.Response:
    return await simulator.token(grant_type="client_credentials", **form)


async def granted(simulator: Simulator, scope: str) -> dict[str, str]:
    answer = await own_token(simulator, scope=scope)
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestClientCredentials:
    async def test_give_an_access_token_of_the_application_s_own_account(self, simulator: Simulator) -> None:
        token = await granted(simulator, "notes.read notes.write")
        headers = bearer(token["access_token"])

        me = await simulator.me(token["access_token"])
        written = await simulator.http.post("/api/notes", headers=headers, json={"text": "mine"})
        notes = await simulator.http.get("/api/notes", headers=headers)

        assert token.keys() == {"token_type", "access_token", "expires_in", "scope"}, "and no refresh token"
        assert token["scope"] == "notes.read notes.write"
        assert me.json()["id"] == "acct_app"
        assert (written.status_code, notes.json()["notes"][0]["text"]) == (201, "mine")
        entry = await simulator.last("/oauth/token")
        assert (entry["account_id"], entry["detail"]["grant_type"]) == ("acct_app", "client_credentials")

    async def test_give_what_was_asked_for_and_the_profile_by_default(self, simulator: Simulator) -> None:
        assert (await own_token(simulator)).json()["scope"] == "profile"
        token = await granted(simulator, "notes.read")
        write = await simulator.http.post("/api/notes", headers=bearer(token["access_token"]), json={"text": "no"})

        assert write.status_code == 403

    async def test_need_the_secret_and_known_scopes(self, simulator: Simulator) -> None:
        stranger = await simulator.token((CLIENT[0], "wrong"), grant_type="client_credentials")
        unknown = await own_token(simulator, scope="everything")

        assert (stranger.status_code, stranger.json()["error"]) == (401, "invalid_client")
        assert (unknown.status_code, unknown.json()["error"]) == (400, "invalid_scope")

    async def test_can_be_switched_off(self, simulator: Simulator) -> None:
        await simulator.settings(client_credentials=False)

        answer = await own_token(simulator)

        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")

    async def test_one_grant_stands_for_all_of_them_and_revoking_it_ends_them(self, simulator: Simulator) -> None:
        first, second = await granted(simulator, "profile"), await granted(simulator, "profile")
        live = [grant for grant in await simulator.grants() if grant["account_id"] == "acct_app"]
        assert [grant["revoked_at"] for grant in live][-1:] == [None]

        await simulator.http.post("/admin/grants/revoke", json={"grant_id": live[-1]["grant_id"]})

        for token in (first, second):
            assert (await simulator.me(token["access_token"])).status_code == 401
        assert (await simulator.me((await granted(simulator, "profile"))["access_token"])).status_code == 200

    async def test_keep_to_what_an_operator_left_of_it(self, simulator: Simulator) -> None:
        await granted(simulator, "profile")
        grant_id = [grant for grant in await simulator.grants() if grant["account_id"] == "acct_app"][-1]["grant_id"]
        await simulator.http.post("/admin/grants/scopes", json={"grant_id": grant_id, "scopes": ["notes.read"]})

        refused = [await own_token(simulator, scope="profile"), await own_token(simulator)]
        allowed = await granted(simulator, "notes.read")
        await simulator.http.post("/admin/grants/revoke", json={"grant_id": grant_id})

        assert [answer.json()["error"] for answer in refused] == ["invalid_scope", "invalid_scope"]
        assert allowed["scope"] == "notes.read"

    async def test_a_fault_finds_the_application(self, simulator: Simulator) -> None:
        token = await granted(simulator, "profile")
        ada = await simulator.connect()
        await simulator.fault(kind="status", account_id="acct_app", grant_type="client_credentials")
        await simulator.fault(kind="throttle", account_id="acct_app", path="/api")

        assert (await own_token(simulator)).status_code == 503
        assert (await simulator.me(token["access_token"])).status_code == 429
        assert (await simulator.refresh(ada["refresh_token"])).status_code == 200

    @pytest.mark.parametrize("password", ["", "app", "acct_app"])
    async def test_nobody_logs_in_as_the_application(self, simulator: Simulator, password: str) -> None:
        form = {"continue": "/oauth/authorize?", "email": "app@simulator.example", "password": password}

        assert (await simulator.http.post("/login", data=form)).status_code == 401
