"""Every way in which the simulator can be broken, over a real socket: what we make of it, and that no secret leaks."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from integrations.domain.verdict import Heard, Trouble, Verdict
from integrations.providers import http
from integrations.providers.http import make_client, make_renewing_client
from integrations.providers.oauth import OAuthClient, Providers
from simulator.fault_kinds import KINDS
from tests.activities.connected import altered
from tests.providers.person import Person

TOKEN, API = "/oauth/token", "/api/notes"
# The fault; the rule that it meets at the token endpoint and at the API; may the request have taken effect?
MET = [
    ({"kind": "status", "status": 503, "body": {"error": "invalid_grant"}}, "server-error", "server-error", None),
    ({"kind": "status", "status": 500, "body": ""}, "server-error", "server-error", None),
    ({"kind": "status", "status": 400, "body": {"error": "invalid_grant"}}, "grant-dead", "grant-dead", None),
    ({"kind": "status", "status": 400, "body": {"error": "invalid_client"}}, "registration-wrong", None, None),
    ({"kind": "status", "status": 401, "body": {}}, "wall", "token-not-accepted", None),
    ({"kind": "status", "status": 200, "body": {"error": "slow_down"}}, "provider-busy", "provider-busy", None),
    ({"kind": "throttle"}, "too-many-calls", "too-many-calls", None),
    ({"kind": "throttle", "retry_after": 9, "retry_after_as": "date"}, "too-many-calls", "too-many-calls", None),
    ({"kind": "html"}, "server-error", "server-error", None),
    ({"kind": "html", "status": 200}, "page-for-people", "page-for-people", Trouble.LOST),
    ({"kind": "html", "status": 403}, "page-for-people", "page-for-people", None),
    ({"kind": "empty"}, "unreadable-success", "success", Trouble.LOST),
    ({"kind": "empty", "status": 502}, "server-error", "server-error", None),
    ({"kind": "hang"}, "answer-lost", "answer-lost", Trouble.LOST),
    ({"kind": "drip"}, "answer-lost", "answer-lost", Trouble.LOST),
    ({"kind": "reset"}, "answer-lost", "answer-lost", Trouble.LOST),
    ({"kind": "drop"}, "answer-lost", "answer-lost", Trouble.LOST),
    ({"kind": "truncated"}, "answer-lost", "answer-lost", Trouble.LOST),
    ({"kind": "truncated", "cut": "body"}, "unreadable-success", "unreadable-success", Trouble.LOST),
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", timedelta(seconds=1))


@pytest.fixture
async def client(providers: Providers) -> AsyncIterator[OAuthClient]:
    """One with connections of its own: those that a fault cut must not be another test's."""
    async with make_client() as own:
        yield altered(providers, http=own).client("simulator")


@pytest.fixture
async def renewing(providers: Providers) -> AsyncIterator[OAuthClient]:
    """The one that sweeps refresh with."""
    async with make_renewing_client() as own:
        yield altered(providers, http=own).client("simulator")


async def refreshed(client: OAuthClient, person: Person, order: dict[str, Any]) -> tuple[Heard, Verdict, list[str]]:
    granted = await person.connects(client)
    assert granted.refresh_token is not None
    await person.breaks(path=TOKEN, **order)
    answer = await client.refresh(granted.refresh_token)
    secrets = [granted.access_token.get_secret_value(), granted.refresh_token.get_secret_value()]
    return answer.heard, answer.verdict, secrets


async def called(client: OAuthClient, person: Person, order: dict[str, Any]) -> tuple[Heard, Verdict, list[str]]:
    granted = await person.connects(client)
    await person.breaks(path=API, **order)
    answer = await client.call(client.provider.capability("notes.read").call, granted.access_token)
    return answer.heard, client.judge_call(answer), [granted.access_token.get_secret_value()]


class TestEveryFault:
    def test_is_in_the_table(self) -> None:
        assert {order["kind"] for order, *_ in MET} == set(KINDS)

    @pytest.mark.parametrize(("order", "rule", "trouble"), [(o, token, t) for o, token, _, t in MET])
    async def test_at_the_token_endpoint_meets_its_rule(
        self, client: OAuthClient, person: Person, order: dict[str, Any], rule: str, trouble: Trouble | None
    ) -> None:
        heard, verdict, secrets = await refreshed(client, person, order)

        assert (verdict.rule, heard.trouble) == (rule, trouble)
        told = f"{heard.model_dump_json()} {verdict.model_dump_json()} {heard.words}"
        assert not any(secret in told for secret in secrets)

    @pytest.mark.parametrize(("order", "rule", "trouble"), [(o, token, t) for o, token, _, t in MET])
    async def test_means_the_same_to_a_sweep(
        self, renewing: OAuthClient, person: Person, order: dict[str, Any], rule: str, trouble: Trouble | None
    ) -> None:
        heard, verdict, secrets = await refreshed(renewing, person, order)

        assert (verdict.rule, heard.trouble) == (rule, trouble)
        told = f"{heard.model_dump_json()} {verdict.model_dump_json()} {heard.words}"
        assert not any(secret in told for secret in secrets)
        assert await person.refreshes() <= 1

    @pytest.mark.parametrize(("order", "rule"), [(o, api) for o, _, api, _ in MET if api])
    async def test_at_the_api_meets_its_rule(
        self, client: OAuthClient, person: Person, order: dict[str, Any], rule: str
    ) -> None:
        heard, verdict, secrets = await called(client, person, order)

        assert verdict.rule == rule
        told = f"{heard.model_dump_json()} {verdict.model_dump_json()} {heard.words}"
        assert not any(secret in told for secret in secrets)

    async def test_whose_error_repeats_the_token_is_told_without_it(self, client: OAuthClient, person: Person) -> None:
        granted = await person.connects(client)
        assert granted.refresh_token is not None
        token = granted.refresh_token.get_secret_value()
        await person.breaks(kind="status", path=TOKEN, status=400, body={"error": token[:40]})

        answer = await client.refresh(granted.refresh_token)

        assert token[:40] not in answer.model_dump_json()
        assert answer.verdict.rule == "error-unknown"


class TestAClockThatIsOff:
    @pytest.mark.parametrize("skew", [-7200, 7200])
    async def test_changes_no_wait(self, client: OAuthClient, person: Person, skew: int) -> None:
        granted = await person.connects(client)
        assert granted.refresh_token is not None
        await person.breaks(kind="throttle", path=TOKEN, retry_after=60, retry_after_as="date")
        await person.settings(clock_skew_s=skew)
        try:
            answer = await client.refresh(granted.refresh_token)
        finally:
            await person.settings(clock_skew_s=0)

        assert answer.verdict.after is not None
        assert timedelta(seconds=55) <= answer.verdict.after <= timedelta(seconds=61)


async def test_a_simulator_that_is_not_there_has_taken_nothing(providers: Providers) -> None:
    async with httpx.AsyncClient(trust_env=False) as own:
        gone = altered(providers, http=own, token_url="http://127.0.0.1:9/token").client("simulator")

        answer = await gone.refresh(SecretStr("sim_rt_anything"))

    assert (answer.verdict.rule, answer.heard.trouble) == ("not-sent", Trouble.NOT_SENT)
