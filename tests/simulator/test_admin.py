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
