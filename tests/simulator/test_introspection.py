import time

import httpx
import pytest

from tests.simulator.conftest import CLIENT, Simulator

INACTIVE = {"active": False}


async def asked_about(simulator: Simulator, token: str, **more: str) -> dict[str, object]:
    answer = await simulator.http.post("/oauth/introspect", data={"token": token, **more}, auth=CLIENT)
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestActive:
    async def test_an_access_token_says_whose_it_is_and_what_for(self, simulator: Simulator) -> None:
        token = await simulator.connect("profile notes.read", who="bob")

        answer = await asked_about(simulator, token["access_token"])

        issued = answer.pop("iat")
        assert abs(time.time() - float(str(issued))) < 5
        assert answer == {
            "active": True,
            "scope": "profile notes.read",
            "client_id": CLIENT[0],
            "sub": "acct_bob",
            "token_type": "Bearer",
            "exp": int(str(issued)) + 3600,
        }

    async def test_a_refresh_token_has_an_end_only_if_it_has_one(self, simulator: Simulator) -> None:
        endless = await simulator.connect("profile")
        await simulator.settings(refresh_token_ttl=60)
        ending = await simulator.connect("profile")

        answers = [await asked_about(simulator, token["refresh_token"]) for token in (endless, ending)]

        assert [answer["active"] for answer in answers] == [True, True]
        assert [answer["token_type"] for answer in answers] == ["refresh_token", "refresh_token"]
        assert "exp" not in answers[0]
        assert answers[1]["exp"] == int(str(answers[1]["iat"])) + 60

    async def test_a_wrong_hint_changes_nothing(self, simulator: Simulator) -> None:
        token = await simulator.connect()

        for hint in ("refresh_token", "whatever"):
            assert (await asked_about(simulator, token["access_token"], token_type_hint=hint))["active"] is True

    async def test_scopes_that_were_taken_back_are_not_told(self, simulator: Simulator) -> None:
        token = await simulator.connect("profile notes.read")
        grant_id = (await simulator.grants())[-1]["grant_id"]
        await simulator.http.post("/admin/grants/scopes", json={"grant_id": grant_id, "scopes": ["profile"]})

        told = [(await asked_about(simulator, token[name]))["scope"] for name in ("access_token", "refresh_token")]

        assert told == ["profile", "profile"]

    async def test_the_provider_s_clock_is_what_counts(self, simulator: Simulator) -> None:
        await simulator.settings(clock_skew_s=10_000)
        token = await simulator.connect()

        answer = await asked_about(simulator, token["access_token"])
        await simulator.settings(clock_skew_s=14_000)

        assert abs(time.time() + 10_000 - float(str(answer["iat"]))) < 5
        assert abs(time.time() + 13_600 - float(str(answer["exp"]))) < 5
        assert await asked_about(simulator, token["access_token"]) == INACTIVE


class TestInactive:
    async def test_unknown(self, simulator: Simulator) -> None:
        assert await asked_about(simulator, "a-token-of-nobody") == INACTIVE

    @pytest.mark.parametrize("which", ["access_token", "refresh_token"])
    async def test_revoked(self, simulator: Simulator, which: str) -> None:
        token = await simulator.connect()
        await simulator.http.post("/admin/grants/revoke", json={"account_id": "acct_ada"})

        assert await asked_about(simulator, token[which]) == INACTIVE

    @pytest.mark.parametrize("which", ["access_token", "refresh_token"])
    async def test_expired(self, simulator: Simulator, which: str) -> None:
        await simulator.settings(refresh_token_ttl=60)
        token = await simulator.connect()
        await simulator.settings(clock_skew_s=3600)

        assert await asked_about(simulator, token[which]) == INACTIVE

    async def test_retired_and_that_is_no_reuse(self, simulator: Simulator) -> None:
        for grace in (60, 0):
            await simulator.settings(rotation_grace_s=grace)
            first = await simulator.connect()
            second = (await simulator.refresh(first["refresh_token"])).json()

            assert await asked_about(simulator, first["refresh_token"]) == INACTIVE

            assert (await asked_about(simulator, second["refresh_token"]))["active"] is True
            assert (await simulator.me(second["access_token"])).status_code == 200
            assert (await simulator.refresh(second["refresh_token"])).status_code == 200


class TestWhoMayAsk:
    async def post(self, simulator: Simulator, form: dict[str, str], **options: object) -> tuple[int, str]:
        answer: httpx.Response = await simulator.http.post("/oauth/introspect", data=form, **options)
        return answer.status_code, answer.json()["error"]

    async def test_only_the_client_and_about_something(self, simulator: Simulator) -> None:
        token = (await simulator.connect())["access_token"]

        assert await self.post(simulator, {"token": token}) == (401, "invalid_client")
        assert await self.post(simulator, {"token": token}, auth=(CLIENT[0], "x")) == (401, "invalid_client")
        assert await self.post(simulator, {}, auth=CLIENT) == (400, "invalid_request")

    async def test_the_secret_may_come_in_the_body(self, simulator: Simulator) -> None:
        token = (await simulator.connect())["access_token"]
        form = {"token": token, "client_id": CLIENT[0], "client_secret": CLIENT[1]}

        assert (await simulator.http.post("/oauth/introspect", data=form)).json()["active"] is True

    async def test_nobody_when_it_is_switched_off(self, simulator: Simulator) -> None:
        await simulator.settings(introspection=False)

        answer = await simulator.http.post("/oauth/introspect", data={"token": "x" * 9}, auth=CLIENT)

        assert answer.status_code == 404

    async def test_the_log_names_the_account_and_not_the_token(self, simulator: Simulator) -> None:
        token = (await simulator.connect())["access_token"]
        await asked_about(simulator, token)

        entry = await simulator.last("/oauth/introspect")

        assert (entry["account_id"], entry["status"]) == ("acct_ada", 200)
        assert token not in str(entry)
        assert len(entry["detail"]["token_fp"]) == 8

    async def test_a_fault_finds_the_account(self, simulator: Simulator) -> None:
        ada, bob = await simulator.connect(), await simulator.connect(who="bob")
        await simulator.fault(kind="status", path="/oauth/introspect", account_id="acct_ada")

        answer = await simulator.http.post("/oauth/introspect", data={"token": ada["access_token"]}, auth=CLIENT)

        assert answer.status_code == 503
        assert (await asked_about(simulator, bob["access_token"]))["active"] is True
