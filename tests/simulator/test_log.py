import httpx
import pytest

from simulator.log import Entry, RequestLog
from simulator.store import Store
from tests.simulator.conftest import CLIENT, Simulator, asked, returned, serving, visiting


class TestRequestLog:
    async def test_holds_no_secret(self) -> None:
        with serving() as address:
            async with visiting(address) as simulator:
                request = asked()
                redirect = await simulator.consent(request)
                token = (await simulator.exchange(request, redirect)).json()
                await simulator.exchange(request, redirect, code_verifier="a-wrong-verifier" * 4)
                await simulator.refresh(token["refresh_token"])
                await simulator.refresh("a-token-issued-by-nobody")
                await simulator.me(token["access_token"])
                await simulator.http.get(f"/api/{token['access_token']}")
                await simulator.http.get("/oauth/authorize", params={"scope": token["access_token"]})
                await simulator.token(grant_type=token["refresh_token"])
                for asked_about in (token["access_token"], token["refresh_token"], "a-token-to-ask-about"):
                    await simulator.http.post("/oauth/introspect", data={"token": asked_about}, auth=CLIENT)
                own = {"grant_type": "client_credentials", "client_id": CLIENT[0], "client_secret": CLIENT[1]}
                await simulator.token(None, **own)
                await simulator.http.post("/admin/grants/mint", json={"count": 2})
                for kind in ("drop", "truncated"):
                    await simulator.fault(kind=kind, count=1)
                    with pytest.raises(httpx.TransportError):
                        await simulator.refresh(token["refresh_token"])
                log = (await simulator.http.get("/admin/requests")).text
                secrets = (await simulator.http.get("/admin/secrets")).json()["secrets"]

        known = {secret["value"] for secret in secrets}
        assert {request.state, request.verifier, returned(redirect)["code"], CLIENT[1]} <= known
        assert {
            token["access_token"],
            token["refresh_token"],
            "a-token-issued-by-nobody",
            "a-token-to-ask-about",
        } <= known
        assert "a-wrong-verifier" * 4 in known
        assert len(known) == len(secrets)
        assert log.count("/oauth/token") >= 5
        assert [value for value in known if value in log] == []
        assert [cookie for cookie in simulator.http.cookies.values() if cookie in log] == []

    async def test_is_read_forward_from_a_number_and_backward_without(self, simulator: Simulator) -> None:
        for number in range(5):
            await simulator.http.get(f"/api/page/{number}")
        pages = await simulator.log(path="/api/page/", limit=3)
        first = pages[0]["seq"]

        onward = await simulator.log(since_seq=first, path="/api/page/", limit=1)

        assert [entry["path"] for entry in pages] == ["/api/page/2", "/api/page/3", "/api/page/4"]
        assert [entry["path"] for entry in onward] == ["/api/page/3"]
        assert pages[0].keys() == {
            *("seq", "at", "method", "path", "status", "account_id", "grant_id", "duration_ms", "detail")
        }
        assert pages[0]["at"].endswith("Z")
        assert (pages[0]["status"], pages[0]["method"]) == (404, "GET")

    async def test_leaves_out_the_operators_own_pages(self, simulator: Simulator) -> None:
        before = await simulator.log(limit=1)

        for path in ("/", "/break", "/healthz", "/admin/grants", "/admin/settings"):
            await simulator.http.get(path)

        assert await simulator.log(limit=1) == before

    async def test_bad_queries_are_told_by_field(self, simulator: Simulator) -> None:
        for query in ({"since_seq": "x"}, {"limit": "0"}):
            answer = await simulator.http.get("/admin/requests", params=query)
            assert answer.status_code == 422
            assert answer.json()["error"].startswith(next(iter(query)))


def test_only_the_newest_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.log.KEPT", 10)
    monkeypatch.setattr("simulator.log.TRIM_EVERY", 5)
    store = Store(None)
    log = RequestLog(store)

    for number in range(100):
        log.write(Entry("GET", f"/{number}"), 200)

    assert 10 <= len(log.read()) <= 16
    assert log.read()[-1]["path"] == "/99"
    store.close()
