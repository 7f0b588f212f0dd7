"""Every call is reported with what came of it, over a real socket, and with nothing of what was in it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from integrations.domain.call import Caller, ProviderCall
from integrations.domain.gate import Purpose
from integrations.domain.verdict import Meaning
from integrations.providers import http
from integrations.providers.entry import Call
from integrations.providers.http import make_client
from integrations.providers.oauth import OAuthClient, Providers
from tests.activities.connected import altered
from tests.providers.person import CALLBACK, Person

ADA = Caller(tenant="org:acme", connection_id=uuid4(), purpose=Purpose.REFRESH, attempt=3)
TOKEN, API = "/oauth/token", "/api/notes"
# The fault; what its call is remembered as.
TOLD = [
    ({"kind": "status", "status": 503, "body": {"error": "invalid_grant"}}, (Meaning.OUTAGE, "server-error", 503)),
    ({"kind": "throttle"}, (Meaning.THROTTLED, "too-many-calls", 429)),
    (
        {"kind": "status", "status": 400, "body": {"error": "invalid_grant"}},
        (Meaning.OWNER_MUST_ACT, "grant-dead", 400),
    ),
    (
        {"kind": "status", "status": 400, "body": {"error": "invalid_client"}},
        (Meaning.OPERATOR_MUST_ACT, "registration-wrong", 400),
    ),
    ({"kind": "status", "status": 200, "body": {"a": "b"}}, (Meaning.UNKNOWN, "success-without-token", 200)),
    ({"kind": "hang"}, (Meaning.OUTAGE, "answer-lost", None)),
    ({"kind": "reset"}, (Meaning.OUTAGE, "answer-lost", None)),
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", timedelta(seconds=1))


@dataclass
class Heard:
    providers: Providers
    calls: list[ProviderCall]

    def client(self, caller: Caller | None = ADA) -> OAuthClient:
        return self.providers.client("simulator", caller=caller)

    @property
    def last(self) -> ProviderCall:
        return self.calls[-1]


@pytest.fixture
async def heard(providers: Providers, simulator_url: str) -> AsyncIterator[Heard]:
    """Connections of its own: those that a fault cut must not be another test's."""
    calls = list[ProviderCall]()
    endpoints = {f"{name}_url": f"{simulator_url}/oauth/{name}" for name in ("introspect", "revoke")}
    async with make_client() as own:
        yield Heard(Providers(altered(providers, **endpoints).catalog, own, calls.append), calls)


async def refreshed(heard: Heard, person: Person, **fault: Any) -> list[str]:
    """A refresh that meets a fault. The secrets that were on their way."""
    granted = await person.connects(heard.client())
    assert granted.refresh_token is not None
    if fault:
        await person.breaks(path=TOKEN, **fault)
    await heard.client().refresh(granted.refresh_token)
    return [granted.access_token.get_secret_value(), granted.refresh_token.get_secret_value()]


class TestACall:
    async def test_that_goes_well(self, heard: Heard, person: Person) -> None:
        await refreshed(heard, person)

        call = heard.last
        assert (call.provider_id, call.endpoint, call.caller) == ("simulator", "token", ADA)
        assert (call.outcome, call.rule, call.status) == (Meaning.OK, "success", 200)
        assert 0 <= call.duration_ms < 1000

    @pytest.mark.parametrize(("fault", "told"), TOLD)
    async def test_that_does_not(
        self, heard: Heard, person: Person, fault: dict[str, Any], told: tuple[Meaning, str, int | None]
    ) -> None:
        secrets = await refreshed(heard, person, **fault)

        call = heard.last
        assert (call.outcome, call.rule, call.status) == told
        assert (call.duration_ms >= 1000) is (fault["kind"] == "hang")
        assert not any(secret in repr(call) for secret in secrets)

    async def test_that_repeats_a_secret_in_its_error_is_told_without_it(self, heard: Heard, person: Person) -> None:
        granted = await person.connects(heard.client())
        assert granted.refresh_token is not None
        token = granted.refresh_token.get_secret_value()
        await person.breaks(kind="status", path=TOKEN, status=400, body={"error": token[:40]})

        await heard.client().refresh(granted.refresh_token)

        assert heard.last.rule == "error-unknown"
        assert token[:8] not in repr(heard.last)

    async def test_has_an_endpoint_that_is_a_name_and_never_an_address(self, heard: Heard, person: Person) -> None:
        client = heard.client()
        code, verifier = await person.gives(client)
        granted = (await client.exchange(code, redirect_uri=CALLBACK, verifier=verifier)).granted
        assert granted is not None
        assert granted.refresh_token is not None
        await client.identity(granted.access_token)
        await client.introspect(granted.refresh_token)
        await client.call(client.provider.capability("notes.write").call, granted.access_token, payload={"text": "x"})
        await client.call(client.provider.capability("notes.read").probe, granted.access_token)
        await client.call(Call(method="GET", url=f"{client.provider.token_url}/none"), granted.access_token)
        await client.revoke(granted.refresh_token)

        names = ["token", "identity", "introspect", "notes.write", "notes.read", "api", "revoke"]
        assert [call.endpoint for call in heard.calls] == names

    async def test_that_does_not_tell_whose_account_it_is(self, heard: Heard, person: Person) -> None:
        granted = await person.connects(heard.client())
        await person.breaks(kind="status", path="/api/me", status=200, body={"name": "ada"})

        await heard.client().identity(granted.access_token)

        assert (heard.last.endpoint, heard.last.outcome, heard.last.status) == ("identity", Meaning.UNKNOWN, 200)

    async def test_on_nobodys_behalf_is_not_told_of(self, heard: Heard) -> None:
        await heard.client(None).refresh(SecretStr("sim_rt_anything"))

        assert heard.calls == []

    async def test_is_its_own_callers_among_many_at_once(self, heard: Heard) -> None:
        callers = [replace(ADA, connection_id=uuid4()) for _ in range(20)]

        async def refresh(caller: Caller) -> None:
            await heard.client(caller).refresh(SecretStr("sim_rt_anything"))

        await asyncio.gather(*map(refresh, callers))

        assert sorted(call.caller.connection_id for call in heard.calls) == sorted(c.connection_id for c in callers)
