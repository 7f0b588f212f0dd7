import pytest

from tests.simulator.conftest import CLIENT, Simulator, bearer


async def newest_grant(simulator: Simulator) -> str:
    return str((await simulator.grants())[-1]["grant_id"])


async def is_alive(simulator: Simulator, token: dict[str, str]) -> bool:
    return (await simulator.me(token["access_token"])).status_code == 200


class TestRevoking:
    async def test_are_listed_and_revoked_by_account(self, simulator: Simulator) -> None:
        token = await simulator.connect("profile notes.read", who="bob")
        listed = (await simulator.grants())[-1]

        answer = await simulator.http.post("/admin/grants/revoke", json={"account_id": "acct_bob"})

        assert listed.pop("grant_id").startswith("grant_")
        assert listed.pop("created_at").endswith("Z")
        assert listed == {
            "account_id": "acct_bob",
            "client_id": "runbook-test",
            "scopes": ["profile", "notes.read"],
            "revoked_at": None,
        }
        assert answer.json()["revoked"] >= 1
        assert (await simulator.grants())[-1]["revoked_at"] is not None
        assert (await simulator.me(token["access_token"])).status_code == 401
        assert (await simulator.refresh(token["refresh_token"])).json()["error"] == "invalid_grant"

    async def test_one_is_revoked_by_its_id_and_only_that(self, simulator: Simulator) -> None:
        gone, kept = await simulator.connect(), await simulator.connect()
        grant_id = (await simulator.grants())[-2]["grant_id"]

        answer = await simulator.http.post("/admin/grants/revoke", json={"grant_id": grant_id})

        assert answer.json() == {"revoked": 1}
        assert (await simulator.me(gone["access_token"])).status_code == 401
        assert (await simulator.me(kept["access_token"])).status_code == 200
        again = await simulator.http.post("/admin/grants/revoke", json={"grant_id": grant_id})
        assert again.status_code == 404
        assert grant_id in again.json()["error"]

    async def test_both_names_must_fit(self, simulator: Simulator) -> None:
        kept = await simulator.connect(who="bob")
        order = {"account_id": "acct_ada", "grant_id": (await simulator.grants())[-1]["grant_id"]}

        answer = await simulator.http.post("/admin/grants/revoke", json=order)

        assert answer.status_code == 404
        assert (await simulator.me(kept["access_token"])).status_code == 200

    async def test_revoking_nothing_in_particular_is_refused(self, simulator: Simulator) -> None:
        kept = await simulator.connect()

        answer = await simulator.http.post("/admin/grants/revoke", json={})

        assert answer.status_code == 422
        assert "account_id or grant_id" in answer.json()["error"]
        assert (await simulator.me(kept["access_token"])).status_code == 200


class TestScopes:
    async def change(self, simulator: Simulator, *scopes: str) -> None:
        order = {"grant_id": await newest_grant(simulator), "scopes": scopes}
        answer = await simulator.http.post("/admin/grants/scopes", json=order)
        assert answer.status_code == 200, answer.text
        assert answer.json() == order | {"scopes": list(scopes)}

    async def read_notes(self, simulator: Simulator, token: dict[str, str]) -> int:
        answer = await simulator.http.get("/api/notes", headers=bearer(token["access_token"]))
        return answer.status_code

    async def test_narrowed_ones_are_gone_at_once_and_from_the_next_refresh(self, simulator: Simulator) -> None:
        token = await simulator.connect("profile notes.read")
        before = await self.read_notes(simulator, token)

        await self.change(simulator, "profile")

        assert (before, await self.read_notes(simulator, token)) == (200, 403)
        assert await is_alive(simulator, token)
        refreshed = (await simulator.refresh(token["refresh_token"])).json()
        assert refreshed["scope"] == "profile"
        assert (await simulator.refresh(token["refresh_token"])).json()["scope"] == "profile", "the same within grace"
        assert (await simulator.grants())[-1]["scopes"] == ["profile"]

    async def test_widened_ones_come_with_the_next_refresh_only(self, simulator: Simulator) -> None:
        token = await simulator.connect("profile")

        await self.change(simulator, "profile", "notes.read")

        assert await self.read_notes(simulator, token) == 403
        refreshed = (await simulator.refresh(token["refresh_token"])).json()
        assert refreshed["scope"] == "profile notes.read"
        assert await self.read_notes(simulator, refreshed) == 200

    async def test_a_refresh_may_not_ask_for_what_was_taken_back(self, simulator: Simulator) -> None:
        token = await simulator.connect("profile notes.read")
        await self.change(simulator, "profile")

        answer = await simulator.token(
            grant_type="refresh_token", refresh_token=token["refresh_token"], scope="notes.read"
        )

        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")

    @pytest.mark.parametrize("scopes", [[], ["everything"], ["profile", "everything"], "profile"])
    async def test_unknown_ones_and_none_at_all_are_refused(self, simulator: Simulator, scopes: object) -> None:
        token = await simulator.connect("profile")
        order = {"grant_id": await newest_grant(simulator), "scopes": scopes}

        answer = await simulator.http.post("/admin/grants/scopes", json=order)

        assert answer.status_code == 422
        assert answer.json()["error"].startswith("scopes: ")
        assert (await simulator.refresh(token["refresh_token"])).json()["scope"] == "profile"

    async def test_a_dead_grant_has_none(self, simulator: Simulator) -> None:
        await simulator.connect("profile")
        order = {"grant_id": await newest_grant(simulator)}
        await simulator.http.post("/admin/grants/revoke", json=order)

        answer = await simulator.http.post("/admin/grants/scopes", json=order | {"scopes": ["profile"]})

        assert answer.status_code == 404
        assert order["grant_id"] in answer.json()["error"]


class TestMostLiveGrants:
    async def test_a_new_consent_revokes_the_oldest_of_that_account(self, simulator: Simulator) -> None:
        await simulator.http.post("/admin/grants/revoke", json={"account_id": "acct_ada"})
        bob, oldest, middle = await simulator.connect(who="bob"), await simulator.connect(), await simulator.connect()
        await simulator.settings(max_live_grants=2)
        assert await is_alive(simulator, oldest), "nothing dies before the next consent"

        newest = await simulator.connect()

        alive = [await is_alive(simulator, token) for token in (bob, oldest, middle, newest)]
        assert alive == [True, False, True, True]
        assert (await simulator.refresh(oldest["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await simulator.log(path="/oauth/token"))[-2]["detail"]["grants_revoked"] == 1

    async def test_a_refresh_takes_nobody_s_place(self, simulator: Simulator) -> None:
        await simulator.settings(max_live_grants=1)
        token = await simulator.connect()

        assert await is_alive(simulator, (await simulator.refresh(token["refresh_token"])).json())


class TestMinting:
    async def mint(self, simulator: Simulator, **order: object) -> list[dict[str, str]]:
        answer = await simulator.http.post("/admin/grants/mint", json=order)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def test_gives_new_accounts_working_tokens_that_are_known_secrets(self, simulator: Simulator) -> None:
        minted = await self.mint(simulator, count=3, scopes=["profile", "notes.read"])

        assert len({one["account_id"] for one in minted}) == 3
        for one in minted:
            me = (await simulator.me(one["access_token"])).json()
            assert (me["id"], me["email"]) == (one["account_id"], one["email"])
            assert (await simulator.refresh(one["refresh_token"])).json()["scope"] == "profile notes.read"
            assert one["expires_at"].endswith("Z")
        assert [grant["grant_id"] for grant in (await simulator.grants())[-3:]] == [one["grant_id"] for one in minted]
        known = {secret["value"] for secret in (await simulator.http.get("/admin/secrets")).json()["secrets"]}
        assert {one[name] for one in minted for name in ("access_token", "refresh_token")} <= known

    async def test_gives_accounts_that_are_here_one_grant_each_with_everything(self, simulator: Simulator) -> None:
        minted = await self.mint(simulator, account_ids=["acct_bob", "acct_ada", "acct_bob"])

        assert [one["account_id"] for one in minted] == ["acct_bob", "acct_ada", "acct_bob"]
        assert (await simulator.grants())[-1]["scopes"] == ["profile", "notes.read", "notes.write"]
        assert await is_alive(simulator, minted[0])

    async def test_keeps_to_the_most_live_grants(self, simulator: Simulator) -> None:
        await simulator.settings(max_live_grants=1)

        older, newer = await self.mint(simulator, account_ids=["acct_bob", "acct_bob"])

        assert (await is_alive(simulator, older), await is_alive(simulator, newer)) == (False, True)

    async def test_minted_accounts_can_log_in(self, simulator: Simulator) -> None:
        (one,) = await self.mint(simulator, count=1)
        form = {"continue": "/oauth/authorize?", "email": one["email"], "password": "minted"}

        assert (await simulator.http.post("/login", data=form)).status_code == 303

    @pytest.mark.parametrize(
        ("order", "status", "said"),
        [
            ({}, 422, "account_ids or count"),
            ({"count": 1, "account_ids": ["acct_ada"]}, 422, "account_ids or count"),
            ({"count": 0}, 422, "count: "),
            ({"account_ids": []}, 422, "account_ids: "),
            ({"count": 1, "scopes": ["everything"]}, 422, "scopes: "),
            ({"account_ids": ["acct_ada", "acct_x"]}, 404, "acct_x"),
        ],
    )
    async def test_does_nothing_for_a_bad_order(
        self, simulator: Simulator, order: dict[str, object], status: int, said: str
    ) -> None:
        before = await simulator.grants()

        answer = await simulator.http.post("/admin/grants/mint", json=order)

        assert answer.status_code == status
        assert said in answer.json()["error"]
        assert await simulator.grants() == before


async def test_minted_tokens_belong_to_the_registered_client(simulator: Simulator) -> None:
    await simulator.http.post("/admin/grants/mint", json={"count": 1})

    assert (await simulator.grants())[-1]["client_id"] == CLIENT[0]
