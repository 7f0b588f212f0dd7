import pytest

from tests.simulator.conftest import Simulator, asked, field


class TestSettings:
    async def test_are_changed_one_by_one(self, simulator: Simulator) -> None:
        before = (await simulator.http.get("/admin/settings")).json()

        await simulator.settings(rotate=False)
        changed = await simulator.settings(rotation_grace_s=5)

        assert changed.json() == before | {"rotate": False, "rotation_grace_s": 5}
        assert (await simulator.http.get("/admin/settings")).json() == changed.json()

    @pytest.mark.parametrize(
        "bad", [{"colour": "red"}, {"access_token_ttl": 0}, {"rotate": "perhaps"}, {"rotation_grace_s": -1}]
    )
    async def test_refuse_what_makes_no_sense_and_change_nothing(
        self, simulator: Simulator, bad: dict[str, object]
    ) -> None:
        before = (await simulator.http.get("/admin/settings")).json()

        answer = await simulator.settings(pkce_required=False, **bad)

        assert answer.status_code == 422
        assert answer.json()["error"].startswith(f"{next(iter(bad))}: ")
        assert (await simulator.http.get("/admin/settings")).json() == before


class TestGrants:
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


class TestAccounts:
    async def test_one_more_can_log_in(self, simulator: Simulator) -> None:
        new = {"email": "cy@third.example", "name": "Cy Third", "password": "cyan"}

        added = await simulator.http.post("/admin/accounts", json=new)
        login = await simulator.open(asked())
        form = {"continue": field(login.text, "continue"), "email": "CY@third.example", "password": "cyan"}
        consent = await simulator.http.post("/login", data=form, follow_redirects=True)

        assert added.status_code == 201
        assert added.json()["id"].startswith("acct_")
        assert "cyan" not in added.text
        assert "Cy Third" in consent.text

    async def test_an_address_is_taken_once(self, simulator: Simulator) -> None:
        answer = await simulator.http.post(
            "/admin/accounts", json={"email": "Ada@acme.example", "name": "A", "password": "p"}
        )

        assert answer.status_code == 409

    async def test_bad_ones_are_told_by_field_and_never_by_value(self, simulator: Simulator) -> None:
        answer = await simulator.http.post(
            "/admin/accounts", json={"email": "nobody", "name": "", "password": "hunter2", "role": "x"}
        )

        assert answer.status_code == 422
        assert [part.split(":")[0] for part in answer.json()["error"].split("; ")] == ["email", "name", "role"]
        assert "hunter2" not in answer.text
