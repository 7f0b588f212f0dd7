import asyncio

import pytest

from tests.simulator.conftest import Simulator, bearer


class TestBearerToken:
    async def test_tells_who_it_belongs_to(self, simulator: Simulator) -> None:
        token = await simulator.connect("notes.read", who="bob")

        answer = await simulator.me(token["access_token"])

        assert answer.json() == {"id": "acct_bob", "email": "bob@other.example", "name": "Bob Other"}

    @pytest.mark.parametrize(
        "headers", [{}, bearer("sim_at_unknown"), {"Authorization": "Bearer"}, {"Authorization": "Basic x"}]
    )
    async def test_missing_or_unknown_is_401(self, simulator: Simulator, headers: dict[str, str]) -> None:
        answer = await simulator.http.get("/api/me", headers=headers)

        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
        assert answer.json()["error"] == "invalid_token"

    async def test_expires(self, simulator: Simulator) -> None:
        await simulator.settings(access_token_ttl=1)
        token = await simulator.connect()
        assert token["expires_in"] == 1
        assert (await simulator.me(token["access_token"])).status_code == 200
        await asyncio.sleep(1.01)

        assert (await simulator.me(token["access_token"])).status_code == 401

    async def test_is_taken_from_a_bearer_header_only(self, simulator: Simulator) -> None:
        token = (await simulator.connect())["access_token"]

        basic = await simulator.http.get("/api/me", headers={"Authorization": f"Basic {token}"})
        query = await simulator.http.get("/api/me", params={"access_token": token})

        assert (basic.status_code, query.status_code) == (401, 401)

    async def test_a_refresh_token_is_none(self, simulator: Simulator) -> None:
        token = await simulator.connect()

        assert (await simulator.me(token["refresh_token"])).status_code == 401


class TestScopes:
    async def test_are_needed_for_the_profile_and_not_for_whose_token_it_is(self, simulator: Simulator) -> None:
        token = (await simulator.connect("notes.read"))["access_token"]

        assert (await simulator.me(token)).status_code == 200
        assert (await simulator.http.get("/api/profile", headers=bearer(token))).status_code == 403
        allowed = bearer((await simulator.connect("profile"))["access_token"])
        assert (await simulator.http.get("/api/profile", headers=allowed)).json()["id"] == "acct_ada"

    async def test_are_needed_and_named(self, simulator: Simulator) -> None:
        headers = bearer((await simulator.connect("profile"))["access_token"])

        read = await simulator.http.get("/api/notes", headers=headers)
        write = await simulator.http.post("/api/notes", headers=headers, json={"text": "hello"})

        for answer, scope in ((read, "notes.read"), (write, "notes.write")):
            assert answer.status_code == 403
            assert answer.json()["error"] == "insufficient_scope"
            assert answer.json()["scope"] == scope
            assert f'scope="{scope}"' in answer.headers["www-authenticate"]
        assert (await simulator.last("/api/notes"))["detail"]["scope_needed"] == "notes.write"


class TestNotes:
    async def test_one_key_writes_one_note_per_account(self, simulator: Simulator) -> None:
        ada = bearer((await simulator.connect())["access_token"])
        bob = bearer((await simulator.connect(who="bob"))["access_token"])
        key = {"Idempotency-Key": "job-1"}
        before = (await simulator.http.get("/api/notes", headers=ada)).json()["notes"]

        first = await simulator.http.post("/api/notes", headers=ada | key, json={"text": "once"})
        again = await simulator.http.post("/api/notes", headers=ada | key, json={"text": "twice"})
        other = await simulator.http.post("/api/notes", headers=bob | key, json={"text": "bob's"})
        other_again = await simulator.http.post("/api/notes", headers=bob | key, json={"text": "bob's second"})
        notes = (await simulator.http.get("/api/notes", headers=ada)).json()["notes"]

        assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
        assert first.json() == again.json()
        assert other.json() == other_again.json()
        assert [note["text"] for note in notes if note not in before] == ["once"]
        assert (await simulator.log(path="/api/notes"))[-2]["detail"]["idempotency_key"] == "job-1"

    async def test_without_a_key_each_call_writes(self, simulator: Simulator) -> None:
        headers = bearer((await simulator.connect())["access_token"])

        answers = [await simulator.http.post("/api/notes", headers=headers, json={"text": "same"}) for _ in "ab"]

        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json()["id"] != answers[1].json()["id"]

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ('{"text": ""}', "text"),
            ("{}", "text"),
            ('{"text": "a", "colour": 1}', "colour"),
            ("no json", "body"),
            ('{"text": "\\ud800"}', "body"),
        ],
    )
    async def test_a_bad_note_is_told_by_field(self, simulator: Simulator, body: str, named: str) -> None:
        headers = bearer((await simulator.connect())["access_token"])

        answer = await simulator.http.post("/api/notes", headers=headers, content=body)

        assert answer.status_code == 422
        assert answer.json()["error"].startswith(f"{named}: ")

    async def test_a_bad_key_is_refused(self, simulator: Simulator) -> None:
        headers = bearer((await simulator.connect())["access_token"]) | {"Idempotency-Key": "k" * 201}

        answer = await simulator.http.post("/api/notes", headers=headers, json={"text": "hello"})

        assert answer.status_code == 422
        assert answer.json()["error"].startswith("Idempotency-Key: ")
