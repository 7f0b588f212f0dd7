"""The simulator speaks as another provider does, as soon as it is told how."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from simulator.settings import Settings
from tests.simulator.conftest import CALLBACK, CLIENT, Asked, Simulator, asked, field

ME = {"method": "GET", "path": "/v1/me", "id_at": "id"}
OTHER = {
    "name": "Other",
    "authorize": "/login/authorize",
    "token": "/v1/token",
    "revoke": "/v1/revoke",
    "introspect": "/v1/introspect",
    "scopes": ["read", "write", "https://other.example/auth/all"],
    "identity": ME,
}


class Other:
    """An application that knows the other provider's ways as the test tells them."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.http = simulator.http

    async def speaks(self, **changes: Any) -> None:
        answer = await self.http.put("/admin/dialect", json=OTHER | changes)
        assert answer.status_code == 200, answer.text

    async def consent(self, request: Asked, *, scopes: str | None = None) -> httpx.Response:
        """Go through both pages; the redirect back, or the page on which it ends."""
        self.http.cookies.clear()
        page = await self.http.get(f"/login/authorize?{urlencode(request.query)}")
        if page.status_code != 200:
            return page
        page = await self.simulator.log_in(page)
        names = page.text.split('name="scope" value="')[1:]
        ticked = [name.partition('"')[0] for name in names] if scopes is None else scopes.split()
        form = {"csrf": field(page.text, "csrf"), "scope": ticked, "decision": "allow"}
        return await self.http.post(page.url, data=form)

    async def code(self, request: Asked, **how: Any) -> str:
        return back(await self.consent(request, **how))["code"]

    async def token(self, **form: str) -> httpx.Response:
        given = {"client_id": CLIENT[0], "client_secret": CLIENT[1]} | form
        return await self.http.post("/v1/token", data={name: value for name, value in given.items() if value})

    async def exchange(self, request: Asked, code: str, **form: str) -> httpx.Response:
        redeemed = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        return await self.token(**redeemed | {"code_verifier": request.verifier} | form)

    async def connect(self, scope: str = "read write", **how: Any) -> dict[str, Any]:
        request = asked(scope)
        answer = await self.exchange(request, await self.code(request, **how))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refresh(self, token: str, **form: str) -> httpx.Response:
        return await self.token(grant_type="refresh_token", refresh_token=token, **form)


def back(redirect: httpx.Response) -> dict[str, str]:
    assert redirect.status_code == 302, redirect.text
    return {name: values[0] for name, values in parse_qs(urlsplit(redirect.headers["location"]).query).items()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def other(simulator: Simulator) -> AsyncIterator[Other]:
    yield Other(simulator)
    await simulator.http.delete("/admin/faults")
    await simulator.http.delete("/admin/dialect")
    await simulator.settings(**Settings().model_dump())


class TestBeingTold:
    async def test_is_undone_by_delete(self, other: Other) -> None:
        await other.speaks()
        spoken = (await other.http.get("/admin/dialect")).json()

        await other.http.delete("/admin/dialect")

        assert spoken["name"] == "Other"
        assert (await other.http.get("/admin/dialect")).json() is None
        assert (await other.http.post("/v1/token")).status_code == 404
        assert (await other.simulator.connect())["scope"] == "profile notes.read notes.write"

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"colour": "red"}, "colour: Extra inputs are not permitted"),
            ({"token": "v1/token"}, "token: must start with a slash"),
            ({"token": "/admin/token"}, "none of the simulator's own pages"),
            ({"identity": ME | {"id_at": "0.id", "name_at": "name"}}, "name cannot be in one answer"),
            ({"words": {"invalid_grant": {"word": "gone", "status": 503}}}, "words.invalid_grant.status"),
        ],
    )
    async def test_refuses_what_it_cannot_say(self, other: Other, changes: dict[str, Any], said: str) -> None:
        answer = await other.http.put("/admin/dialect", json=OTHER | changes)

        assert answer.status_code == 422
        assert said in answer.json()["error"]


class TestConsent:
    async def test_leads_back_with_what_else_the_callback_carries(self, other: Other) -> None:
        await other.speaks(callback={"realmId": "4711"})

        assert back(await other.consent(asked("read")))["realmId"] == "4711"

    async def test_knows_the_client_by_another_name(self, other: Other) -> None:
        await other.speaks(client_id_parameter="client_key")

        usual = await other.consent(asked("read"))
        own = await other.consent(asked("read", client_id="", client_key=CLIENT[0]))

        assert (usual.status_code, own.status_code) == (400, 302)

    @pytest.mark.parametrize(("separator", "scope"), [(" ", "read,write"), (",", "read write"), (" ", "notes.read")])
    async def test_refuses_scopes_that_are_asked_for_in_another_way(
        self, other: Other, separator: str, scope: str
    ) -> None:
        await other.speaks(scope_separator=separator)

        assert back(await other.consent(asked(scope)))["error"] == "invalid_scope"

    async def test_wants_its_own_parameters(self, other: Other) -> None:
        await other.speaks(authorize_parameters={"access_type": "offline"})

        without, with_it = await other.consent(asked("read")), await other.consent(asked("read", access_type="offline"))

        assert (without.status_code, with_it.status_code) == (400, 302)
        assert "access_type=offline" in without.text

    async def test_takes_no_notice_of_a_challenge_that_it_does_not_know(self, other: Other) -> None:
        await other.speaks(pkce=False)
        await other.simulator.settings(pkce_required=False)
        request = asked("read")

        answer = await other.exchange(request, await other.code(request), code_verifier="w" * 50)

        assert answer.status_code == 200
        assert (await other.simulator.last("/v1/token"))["detail"]["pkce"] == "absent"

    async def test_without_any_scope_allows_what_needs_none(self, other: Other) -> None:
        await other.speaks(endpoints=[{"path": "/v1/notes", "needs": [["read"]]}])

        tokens = await other.connect("")

        assert "scope" not in tokens
        me = await other.http.get("/v1/me", headers=bearer(tokens["access_token"]))
        notes = await other.http.get("/v1/notes", headers=bearer(tokens["access_token"]))
        assert (me.json(), notes.status_code) == ({"id": "acct_ada"}, 403)


class TestTheTokenEndpoint:
    @pytest.mark.parametrize("way", ["post", "basic"])
    async def test_takes_one_way_of_client_authentication(self, other: Other, way: str) -> None:
        await other.speaks(client_auth=way)
        form = {"grant_type": "refresh_token", "refresh_token": "unknown"}

        by_post = await other.http.post("/v1/token", data=form | {"client_id": CLIENT[0], "client_secret": CLIENT[1]})
        by_basic = await other.http.post("/v1/token", data=form, auth=CLIENT)

        told = {"post": by_post.json()["error"], "basic": by_basic.json()["error"]}
        assert told == {"post": "invalid_client", "basic": "invalid_client"} | {way: "invalid_grant"}

    async def test_tells_the_scopes_in_its_own_way_without_the_implied_ones(self, other: Other) -> None:
        await other.speaks(scope_separator=",", granted_separator=";", implied={"write": ["read"]})
        everything = "read,write,https://other.example/auth/all"

        assert (await other.connect(everything))["scope"] == "write;https://other.example/auth/all"

    async def test_tells_them_as_a_list_elsewhere(self, other: Other) -> None:
        await other.speaks(granted_at="data.scopes", granted_separator=None)

        tokens = await other.connect(scopes="write")

        assert (tokens["data"], "scope" in tokens) == ({"scopes": ["write"]}, False)

    @pytest.mark.parametrize(("form", "told"), [("number", 3600), ("text", "3600"), ("absent", None)])
    async def test_tells_how_long_a_token_lives(self, other: Other, form: str, told: object) -> None:
        await other.speaks(expires_in=form)

        assert (await other.connect()).get("expires_in") == told

    async def test_holds_more_than_tokens(self, other: Other) -> None:
        await other.speaks(token_members={"instance_url": "https://a.example", "team.id": "T1"})

        tokens = await other.connect()

        assert (tokens["instance_url"], tokens["team"]) == ("https://a.example", {"id": "T1"})

    async def test_wants_its_own_parameters_of_an_exchange(self, other: Other) -> None:
        await other.speaks(exchange_parameters={"expiring": "1"})
        request = asked("read")
        code = await other.code(request)

        without, with_it = await other.exchange(request, code), await other.exchange(request, code, expiring="1")

        assert (without.status_code, without.json()["error"]) == (400, "invalid_request")
        assert with_it.status_code == 200

    async def test_says_a_dead_grant_in_its_own_word_place_and_status(self, other: Other) -> None:
        await other.speaks(
            words={"invalid_grant": {"word": 190, "status": 200}}, token_error_at="error.code", client_auth="post"
        )

        answer = await other.refresh("sim_rt_unknown")

        assert (answer.status_code, answer.json()) == (200, {"error": {"code": 190}})

    async def test_keeps_the_status_of_an_outage_that_uses_the_word(self, other: Other) -> None:
        await other.speaks(words={"invalid_grant": {"word": "gone", "status": 200}})
        await other.simulator.fault(kind="status", status=503, path="/oauth/token", body={"error": "invalid_grant"})

        answer = await other.refresh("sim_rt_unknown")

        assert (answer.status_code, answer.json()) == (503, {"error": "gone"})

    async def test_gives_the_application_a_token_in_the_dialects_scopes(self, other: Other) -> None:
        await other.speaks(scope_separator=",")

        answer = await other.token(grant_type="client_credentials", scope="read,write")

        assert answer.json()["scope"] == "read write"

    async def test_forgets_what_the_application_had_in_another_dialect(self, other: Other) -> None:
        await other.speaks()
        await other.token(grant_type="client_credentials", scope="read")

        await other.speaks(scopes=["see"])

        assert (await other.token(grant_type="client_credentials", scope="see")).json()["scope"] == "see"

    async def test_revokes_and_introspects_at_other_addresses(self, other: Other) -> None:
        await other.speaks()
        form = {"token": (await other.connect())["refresh_token"], "client_id": CLIENT[0], "client_secret": CLIENT[1]}

        before = await other.http.post("/v1/introspect", data=form)
        revoked = await other.http.post("/v1/revoke", data=form)
        after = await other.http.post("/v1/introspect", data=form)

        assert (before.json()["active"], revoked.status_code, after.json()["active"]) == (True, 200, False)


class TestRenewal:
    async def test_by_another_grant_takes_that_one_alone(self, other: Other) -> None:
        await other.speaks(renewal={"grant_type": "renew", "parameter": "old"})
        token = (await other.connect())["refresh_token"]

        usual = await other.refresh(token)
        own = await other.token(grant_type="renew", old=token)

        assert usual.json()["error"] == "unsupported_grant_type"
        assert own.json()["access_token"].startswith("sim_at_")

    async def test_of_access_tokens_knows_no_refresh_token_and_renews_the_living_only(self, other: Other) -> None:
        renewal = {"grant_type": "swap", "parameter": "swap", "sends": "access_token"}
        await other.speaks(renewal=renewal)
        await other.simulator.settings(rotate=False)
        first = await other.connect()

        await other.simulator.settings(clock_skew_s=7200)
        expired = await other.token(grant_type="swap", swap=first["access_token"])
        await other.simulator.settings(clock_skew_s=0)
        second = await other.token(grant_type="swap", swap=first["access_token"])
        await other.http.post("/admin/grants/revoke", json={"account_id": "acct_ada"})
        third = await other.token(grant_type="swap", swap=second.json()["access_token"])

        assert "refresh_token" not in first | second.json()
        assert second.status_code == 200
        assert (expired.json()["error"], third.json()["error"]) == ("invalid_grant", "invalid_grant")


class TestTheApi:
    async def test_tells_who_it_is_at_its_own_places_and_that_nothing_is_wrong(self, other: Other) -> None:
        who = ME | {"id_at": "data.user.open_id", "name_at": "data.user.name", "members": {"data.tenant": "t"}}
        await other.speaks(identity=who, api_members={"error.code": "ok"})
        token = (await other.connect())["access_token"]

        answer = await other.http.get("/v1/me", headers=bearer(token))

        user = {"open_id": "acct_ada", "name": "Ada Acme"}
        assert answer.json() == {"data": {"user": user, "tenant": "t"}, "error": {"code": "ok"}}

    async def test_may_answer_with_a_list(self, other: Other) -> None:
        await other.speaks(identity=ME | {"id_at": "0.tenantId"})
        token = (await other.connect())["access_token"]

        assert (await other.http.get("/v1/me", headers=bearer(token))).json() == [{"tenantId": "acct_ada"}]

    async def test_takes_the_token_from_its_own_header_alone(self, other: Other) -> None:
        await other.speaks(token_header="X-Other-Token", token_prefix="other ")
        token = (await other.connect())["access_token"]

        heard = [
            (await other.http.get("/v1/me", headers=headers)).status_code
            for headers in (bearer(token), {"X-Other-Token": token}, {"X-Other-Token": f"other {token}"})
        ]

        assert heard == [401, 401, 200]

    async def test_wants_its_headers(self, other: Other) -> None:
        await other.speaks(identity=ME | {"headers": {"X-Version": "2"}})
        token = (await other.connect())["access_token"]

        heard = [
            (await other.http.get("/v1/me", headers=bearer(token) | more)).status_code
            for more in ({}, {"X-Version": "1"}, {"X-Version": "2"})
        ]

        assert heard == [400, 400, 200]

    async def test_keeps_addresses_apart_by_method_and_query(self, other: Other) -> None:
        await other.speaks(endpoints=[{"method": "POST", "path": "/v1/notes?kind=a%20b&x=1", "answers": "page"}])
        token = (await other.connect())["access_token"]
        headers = bearer(token)

        same = await other.http.post("/v1/notes?x=1&kind=a+b", headers=headers)
        others = [
            await other.http.get("/v1/notes?kind=a%20b&x=1", headers=headers),
            await other.http.post("/v1/notes", headers=headers),
        ]

        assert (same.status_code, same.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert [answer.status_code for answer in others] == [404, 404]

    @pytest.mark.parametrize(("allowed", "status"), [("read", 200), ("write", 403)])
    async def test_opens_an_address_to_any_of_its_sets_of_scopes(self, other: Other, allowed: str, status: int) -> None:
        await other.speaks(endpoints=[{"path": "/v1/notes", "needs": [["read", "write"], ["read"]]}])
        token = (await other.connect(scopes=allowed))["access_token"]

        assert (await other.http.get("/v1/notes", headers=bearer(token))).status_code == status

    async def test_says_a_missing_scope_in_its_own_word_and_nowhere_else(self, other: Other) -> None:
        endpoints = [{"path": "/v1/notes", "needs": [["write"]]}]
        words = {"insufficient_scope": {"word": "missing_scope", "status": 200}}
        await other.speaks(endpoints=endpoints, words=words, api_error_at="0.code")
        token = (await other.connect(scopes="read"))["access_token"]

        answer = await other.http.get("/v1/notes", headers=bearer(token))

        assert (answer.status_code, answer.json()) == (200, [{"code": "missing_scope"}])
        assert "www-authenticate" not in answer.headers

    async def test_throttles_in_its_own_word_and_headers(self, other: Other) -> None:
        quota = {"remaining": "X-Left", "reset": "X-Reset"}
        await other.speaks(words={"too_many_requests": {"word": "slow", "status": 403}}, quota=quota)
        await other.simulator.fault(kind="throttle", path="/api", retry_after=7)

        answer = await other.http.get("/v1/me")

        assert (answer.status_code, answer.json()) == (403, {"error": "slow"})
        assert (answer.headers["x-left"], answer.headers["retry-after"]) == ("0", "7")
        assert int(answer.headers["x-reset"]) > 1_700_000_000

    @pytest.mark.parametrize("kind", ["truncated", "drop", "reset"])
    async def test_loses_answers_as_ever(self, other: Other, kind: str) -> None:
        await other.speaks()
        await other.simulator.fault(kind=kind, path="/oauth/token", count=1)

        with pytest.raises(httpx.TransportError):
            await other.refresh("sim_rt_unknown")

    async def test_logs_the_address_that_was_asked(self, other: Other) -> None:
        await other.speaks()
        token = (await other.connect())["access_token"]

        await other.http.get("/v1/me", headers=bearer(token))

        seen = await other.simulator.last("/v1/me")
        assert (seen["status"], seen["account_id"]) == (200, "acct_ada")
        assert token not in str(await other.simulator.log())
