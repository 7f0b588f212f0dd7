import asyncio
import time
from contextlib import AsyncExitStack

import httpx
import pytest

from simulator.server import GRACE_ON_STOP_S
from tests.simulator.conftest import Simulator, bearer, serving, until, visiting


class TestStatus:
    async def test_answers_without_handling(self, simulator: Simulator) -> None:
        token = await simulator.connect()
        await simulator.fault(kind="status", path="/oauth/token", retry_after=7, body={"error": "invalid_grant"})

        broken = await simulator.refresh(token["refresh_token"])
        elsewhere = await simulator.me(token["access_token"])
        logged = (await simulator.log(path="/oauth/token"))[-1]
        await simulator.http.delete("/admin/faults")
        healed = await simulator.refresh(token["refresh_token"])

        assert (broken.status_code, broken.json()) == (503, {"error": "invalid_grant"})
        assert broken.headers["retry-after"] == "7"
        assert elsewhere.status_code == 200
        assert (logged["status"], logged["detail"]["fault"], logged["account_id"]) == (503, "status", "acct_ada")
        assert logged["detail"]["grant_type"] == "refresh_token"
        assert healed.status_code == 200
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "rotated"

    async def test_sends_text_as_text(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", status=429, body="slow down")

        answer = await simulator.http.get("/api/me")

        assert (answer.status_code, answer.text) == (429, "slow down")
        assert answer.headers["content-type"].startswith("text/plain")

    async def test_never_touches_the_operators_own_pages(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", path="/")

        for path in ("/", "/break", "/healthz", "/admin/grants"):
            assert (await simulator.http.get(path)).status_code == 200
        assert (await simulator.http.get("/api/me")).status_code == 503


class TestMatching:
    async def test_account_method_and_count(self, simulator: Simulator) -> None:
        ada, bob = await simulator.connect(), await simulator.connect(who="bob")
        await simulator.fault(kind="status", account_id="acct_ada", method="GET", count=2)

        async def notes(token: dict[str, str], method: str = "GET") -> int:
            answer = await simulator.http.request(
                method, "/api/notes", headers=bearer(token["access_token"]), json={"text": "a"}
            )
            return answer.status_code

        assert [await notes(bob), await notes(ada, "POST")] == [200, 201]
        assert [await notes(ada), await notes(ada), await notes(ada)] == [503, 503, 200]
        assert (await simulator.http.get("/admin/faults")).json() == []

    async def test_an_account_is_known_by_its_refresh_token_too(self, simulator: Simulator) -> None:
        ada, bob = await simulator.connect(), await simulator.connect(who="bob")
        await simulator.fault(kind="status", account_id="acct_ada", path="/oauth/token")

        assert (await simulator.refresh(ada["refresh_token"])).status_code == 503
        assert (await simulator.refresh(bob["refresh_token"])).status_code == 200

    async def test_grant_type(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", path="/oauth/token", grant_type="refresh_token")

        token = await simulator.connect()

        assert (await simulator.refresh(token["refresh_token"])).status_code == 503

    async def test_ends_by_itself(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", seconds=0.05)
        assert (await simulator.http.get("/api/me")).status_code == 503

        await asyncio.sleep(0.06)

        assert (await simulator.http.get("/api/me")).status_code == 401

    async def test_a_share_breaks_some(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", share=0.5)

        statuses = {(await simulator.http.get("/api/me")).status_code for _ in range(60)}

        assert statuses == {401, 503}


class TestDrop:
    async def test_handles_the_rotation_and_loses_the_answer(self, simulator: Simulator) -> None:
        first = await simulator.connect()
        await simulator.fault(kind="drop", path="/oauth/token", grant_type="refresh_token", count=1)
        unaffected = await simulator.connect()

        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await simulator.refresh(first["refresh_token"])
        dropped = await simulator.last("/oauth/token")
        again = await simulator.refresh(first["refresh_token"])

        assert unaffected["refresh_token"]
        assert dropped["status"] is None
        assert (dropped["detail"]["fault"], dropped["detail"]["refresh"]) == ("drop", "rotated")
        assert dropped["account_id"] == "acct_ada"
        assert again.status_code == 200
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "grace"


class TestHang:
    async def held(self, simulator: Simulator) -> object:
        return [fault for fault in (await simulator.http.get("/admin/faults")).json() if fault["holding"]]

    async def test_holds_unhandled_until_lifted(self, simulator: Simulator) -> None:
        first = await simulator.connect()
        fault_id = await simulator.fault(kind="hang", path="/oauth/token", count=1)
        waiting = asyncio.create_task(simulator.refresh(first["refresh_token"]))
        await until(lambda: self.held(simulator))
        hanging = await simulator.last("/oauth/token")
        assert not waiting.done()

        assert (await simulator.http.delete(f"/admin/faults/{fault_id}")).status_code == 200

        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await waiting
        assert (hanging["status"], hanging["detail"]["fault"]) == (None, "hang")
        assert (await simulator.refresh(first["refresh_token"])).status_code == 200
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "rotated"

    async def test_lets_go_after_its_time(self, simulator: Simulator) -> None:
        await simulator.fault(kind="hang", seconds_hold=0.05)

        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await simulator.http.get("/api/me")

    async def test_forgets_a_client_that_left(self, simulator: Simulator) -> None:
        await simulator.fault(kind="hang")

        with pytest.raises(httpx.ReadTimeout):
            await simulator.http.get("/api/me", timeout=0.1)

        async def let_go() -> bool:
            return not await self.held(simulator)

        await until(let_go)

    async def test_does_not_keep_the_process_from_stopping(self) -> None:
        async with AsyncExitStack() as client_that_stays:
            with serving() as address:
                simulator = await client_that_stays.enter_async_context(visiting(address))
                await simulator.fault(kind="hang")
                waiting = asyncio.create_task(simulator.http.get("/api/me"))
                await until(lambda: self.held(simulator))
                asked_to_stop = time.monotonic()

            assert time.monotonic() - asked_to_stop < GRACE_ON_STOP_S / 2
            with pytest.raises(httpx.TransportError):
                await waiting


class TestOrders:
    @pytest.mark.parametrize(
        ("order", "named"),
        [
            ({"kind": "explode"}, "kind"),
            ({}, "kind"),
            ({"kind": "status", "status": 42}, "status"),
            ({"kind": "status", "status": 204}, "status"),
            ({"kind": "status", "share": 0}, "share"),
            ({"kind": "status", "count": 0}, "count"),
            ({"kind": "status", "path": "oauth"}, "path"),
            ({"kind": "status", "path": "/admin/faults"}, "path"),
            ({"kind": "status", "method": "post"}, "method"),
            ({"kind": "status", "speed": 1}, "speed"),
            ({"kind": "hang", "seconds_hold": -1}, "seconds_hold"),
            ({"kind": ["hang"]}, "kind"),
            ({"kind": "drip", "bytes_per_s": 0}, "bytes_per_s"),
            ({"kind": "truncated", "cut": "corner"}, "cut"),
            ({"kind": "html", "status": 204}, "status"),
            ({"kind": "status", "path": ["/api", "/admin"]}, "path"),
            ({"kind": "status", "path": []}, "path"),
            ({"kind": "status", "path": 3}, "path"),
            ({"kind": "status", "account_id": []}, "account_id"),
            ({"kind": "throttle", "retry_after": None, "retry_after_as": "date"}, "retry_after_as"),
            ({"kind": "throttle", "retry_after": "soon", "retry_after_as": "date"}, "retry_after_as"),
        ],
    )
    async def test_bad_ones_are_told_by_field(self, simulator: Simulator, order: dict[str, object], named: str) -> None:
        answer = await simulator.http.post("/admin/faults", json=order)

        assert answer.status_code == 422
        assert answer.json()["error"].startswith(f"{named}: ")

    async def test_an_unknown_fault_cannot_be_lifted(self, simulator: Simulator) -> None:
        assert (await simulator.http.delete("/admin/faults/fault_x")).status_code == 404
