import re

from tests.simulator.conftest import Simulator, field


async def press(simulator: Simulator, action: str, **form: str) -> None:
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


class TestPage:
    async def test_shows_who_is_here_and_what_was_asked(self, simulator: Simulator) -> None:
        await simulator.connect("notes.read")

        page = (await simulator.http.get("/")).text

        assert "Ada Acme" in page
        assert "notes.read" in page
        assert "/oauth/token" in page
        assert "no connection may be demoted" in page
        assert 'href="http://127.0.0.1:8233/"' in page

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
