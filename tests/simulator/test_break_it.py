import html
import re

import pytest

from simulator.buttons import BUTTONS
from simulator.fault_kinds import KINDS
from simulator.fault_order import FaultOrder
from simulator.settings import Settings
from tests.simulator.conftest import Simulator, field


async def press(simulator: Simulator, action: str, **form: str | list[str]) -> None:
    answer = await simulator.http.post(f"/break/{action}", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


class TestButtons:
    async def test_outage_and_heal(self, simulator: Simulator) -> None:
        await press(simulator, "outage")
        broken = await simulator.http.get("/api/me")
        page = (await simulator.http.get("/")).text
        await press(simulator, "heal")

        assert broken.status_code == 503
        assert "60 s left" in page
        assert (await simulator.http.get("/api/me")).status_code == 401

    async def test_hang_and_drop_order_what_they_say(self, simulator: Simulator) -> None:
        await press(simulator, "hang")
        await press(simulator, "drop")

        hang, drop = (await simulator.http.get("/admin/faults")).json()

        assert (hang["kind"], hang["seconds"], hang["seconds_hold"], hang["path"]) == ("hang", 60, 60, None)
        assert (drop["kind"], drop["path"], drop["grant_type"], drop["count"]) == (
            *("drop", "/oauth/token", "refresh_token", 1),
        )

    def test_there_is_one_for_every_kind(self) -> None:
        assert {order.kind for button in BUTTONS for order in button.orders} == set(KINDS)

    async def test_each_orders_something_for_a_time_or_a_number_of_calls(self, simulator: Simulator) -> None:
        for button in BUTTONS:
            await press(simulator, button.name)
            faults = await simulator.faults()
            await press(simulator, "heal")

            assert [fault["kind"] for fault in faults] == [order.kind for order in button.orders]
            assert all(fault["seconds"] or fault["count"] for fault in faults), "a button that breaks it for good"

    async def test_the_script_waits_for_its_second_part(self, simulator: Simulator) -> None:
        await press(simulator, "script")

        flaky, dead = await simulator.faults()

        assert (flaky["share"], flaky["seconds"], flaky["waiting"]) == (0.3, 20, False)
        assert (dead["kind"], dead["after_s"], dead["seconds"], dead["waiting"]) == ("hang", 20, 10, True)
        assert f"waits until {str(dead['starts_at'])[11:19]} UTC" in (await simulator.http.get("/")).text

    async def test_lift_takes_one_fault_away(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", path="/api")
        page = await simulator.http.get("/")

        await press(simulator, "lift", fault_id=field(page.text, "fault_id"))

        assert (await simulator.http.get("/admin/faults")).json() == []

    async def test_revoke_takes_one_grant_away(self, simulator: Simulator) -> None:
        token = await simulator.connect("profile", who="bob")
        newest = (await simulator.grants())[-1]["grant_id"]
        page = (await simulator.http.get("/break")).text
        assert f'value="{newest}"' in page

        await press(simulator, "revoke", grant_id=str(newest))

        assert (await simulator.me(token["access_token"])).status_code == 401
        assert f'value="{newest}"' not in (await simulator.http.get("/")).text

    async def test_another_site_cannot_press_them(self, simulator: Simulator) -> None:
        answer = await simulator.http.post("/break/outage", headers={"Origin": "https://evil.example"})

        assert answer.status_code == 403
        assert (await simulator.http.get("/admin/faults")).json() == []

    async def test_the_page_s_own_origin_can(self, simulator: Simulator, address: str) -> None:
        answer = await simulator.http.post("/break/outage", headers={"Origin": address})

        assert answer.status_code == 303

    async def test_an_unknown_one_is_told(self, simulator: Simulator) -> None:
        assert (await simulator.http.post("/break/everything")).status_code == 404


class TestFaultForm:
    async def test_has_a_field_for_all_that_can_be_ordered(self, simulator: Simulator) -> None:
        form = (await simulator.http.get("/")).text.split('action="/break/fault"')[1].split("</form>")[0]

        assert set(re.findall(r'name="(\w+)"', form)) == set(FaultOrder.model_fields) - {"body"}

    async def test_orders_what_is_typed(self, simulator: Simulator) -> None:
        await press(
            simulator,
            "fault",
            kind="throttle",
            path=["/api/me", "/oauth/token"],
            account_id="acct_ada  acct_bob",
            share="0.3",
            share_of="keys",
            per_key="2",
            seconds="12.5",
            count="4",
            after_s="60",
            retry_after="7",
            retry_after_as="date",
            method="POST",
            grant_type="refresh_token",
            status="",
        )

        (fault,) = await simulator.faults()

        assert (
            fault
            | {
                "kind": "throttle",
                "path": ["/api/me", "/oauth/token"],
                "account_id": ["acct_ada", "acct_bob"],
                "share": 0.3,
                "share_of": "keys",
                "per_key": 2,
                "seconds": 12.5,
                "count": 4,
                "after_s": 60,
                "retry_after": 7,
                "retry_after_as": "date",
                "method": "POST",
                "grant_type": "refresh_token",
                "status": 429,
            }
            == fault
        )

    async def test_leaves_to_the_kind_what_is_left_empty(self, simulator: Simulator) -> None:
        await press(simulator, "fault", kind="html", account_id=" ", seconds="", share="1", status="")

        (fault,) = await simulator.faults()

        assert (fault["status"], fault["path"], fault["account_id"], fault["seconds"]) == (502, None, None, None)

    @pytest.mark.parametrize(
        "form", [{"kind": "explode"}, {"kind": "hang", "seconds": "-1"}, {"kind": "hang", "seconds": "soon"}, {}]
    )
    async def test_tells_what_is_wrong_and_orders_nothing(self, simulator: Simulator, form: dict[str, str]) -> None:
        answer = await simulator.http.post("/break/fault", data=form)

        assert answer.status_code == 422
        assert f"{[*form, 'kind'][-1] if form.get('kind') != 'hang' else 'seconds'}: " in answer.text
        assert await simulator.faults() == []


class TestSettingsForm:
    async def form(self, simulator: Simulator) -> dict[str, str]:
        """What a browser would send of the form as it is shown."""
        page = (await simulator.http.get("/")).text.split('action="/break/settings"')[1].split("</form>")[0]
        typed = dict(re.findall(r'<input name="(\w+)" inputmode="decimal" value="([^"]*)"', page))
        ticked = re.findall(r'type="checkbox" name="(\w+)" checked', page)
        return typed | dict.fromkeys(ticked, "on")

    async def test_shows_every_setting_with_its_meaning(self, simulator: Simulator) -> None:
        page = (await simulator.http.get("/")).text

        for name, setting in Settings.model_fields.items():
            assert f'name="{name}"' in page
            assert setting.description
            assert html.escape(setting.description.split(".")[0]).replace("&#x27;", "&#39;") in page

    async def test_saved_as_it_is_changes_nothing(self, simulator: Simulator) -> None:
        before = (await simulator.settings(max_live_grants=3, clock_skew_s=-1.5, rotate=False)).json()

        await press(simulator, "settings", **await self.form(simulator))

        assert (await simulator.http.get("/admin/settings")).json() == before

    async def test_saves_what_is_ticked_typed_and_left_empty(self, simulator: Simulator) -> None:
        await simulator.settings(refresh_token_ttl=5, rotate=False)
        form = await self.form(simulator) | {"rotate": "on", "refresh_token_ttl": "", "access_token_ttl": "60"}
        del form["introspection"]

        await press(simulator, "settings", **form)

        saved = (await simulator.http.get("/admin/settings")).json()
        assert (saved["rotate"], saved["introspection"]) == (True, False)
        assert (saved["access_token_ttl"], saved["refresh_token_ttl"]) == (60, None)

    @pytest.mark.parametrize("typed", ["", "0", "an hour"])
    async def test_tells_what_is_wrong_and_changes_nothing(self, simulator: Simulator, typed: str) -> None:
        before = (await simulator.http.get("/admin/settings")).json()
        form = await self.form(simulator) | {"access_token_ttl": typed, "clock_skew_s": "9"}

        answer = await simulator.http.post("/break/settings", data=form)

        assert answer.status_code == 422
        assert "access_token_ttl: " in answer.text
        assert (await simulator.http.get("/admin/settings")).json() == before


class TestScopesForm:
    async def test_changes_what_a_grant_allows(self, simulator: Simulator) -> None:
        token = await simulator.connect("profile notes.read")
        grant_id = str((await simulator.grants())[-1]["grant_id"])

        await press(simulator, "scopes", grant_id=grant_id, scopes=["profile", "notes.write"])

        assert (await simulator.refresh(token["refresh_token"])).json()["scope"] == "profile notes.write"

    async def test_refuses_to_leave_nothing(self, simulator: Simulator) -> None:
        await simulator.connect("profile")
        grant_id = str((await simulator.grants())[-1]["grant_id"])

        answer = await simulator.http.post("/break/scopes", data={"grant_id": grant_id})

        assert answer.status_code == 422
        assert (await simulator.grants())[-1]["scopes"] == ["profile"]


class TestPage:
    async def test_shows_who_is_here_and_what_was_asked(self, simulator: Simulator) -> None:
        await simulator.connect("notes.read")

        page = (await simulator.http.get("/")).text

        assert "Ada Acme" in page
        assert "notes.read" in page
        assert "/oauth/token" in page
        assert "no connection may be demoted" in page
        assert 'href="http://127.0.0.1:8233/"' in page

    async def test_shows_what_others_sent(self, simulator: Simulator) -> None:
        for key in ("a", "a", "b"):
            await simulator.http.post("/inbox/<pager>", headers={"Idempotency-Key": key})

        page = (await simulator.http.get("/")).text

        assert "/inbox/&lt;pager&gt;</a>" in page
        assert "3 arrivals of 2 keys, 3 accepted" in page
        assert 'href="/admin/inbox/%3Cpager%3E/arrivals"' in page
        assert 'name="path" value="/inbox"' in page

    async def test_loads_nothing_from_elsewhere_and_fits_a_phone(self, simulator: Simulator) -> None:
        page = await simulator.http.get("/")

        assert 'name="viewport"' in page.text
        assert re.findall(r"<(?:script|link|img|iframe)\b|@import|url\(", page.text) == []
        assert page.headers["content-security-policy"].startswith("default-src 'none'")

    async def test_escapes_what_others_write(self, simulator: Simulator) -> None:
        await simulator.http.post(
            "/admin/accounts", json={"email": "<b>@x.example", "name": "<script>", "password": "p"}
        )

        page = (await simulator.http.get("/")).text

        assert "<script>" not in page
        assert "&lt;script&gt;" in page
