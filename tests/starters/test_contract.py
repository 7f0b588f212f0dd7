"""An entry that is wrong in one fact, against a simulator that speaks the right one: exactly that is found."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from integrations.providers.catalog import BUILT_IN, read
from integrations.providers.entry import Provider
from starters.contract.outcome import Outcome, State
from starters.contract.run import contract
from starters.contract.stage import Stage, staged
from starters.contract.visitor import Visitor
from tests.starters.acme import acme

BUILT_IN_ENTRIES = [pytest.param(entry, id=name) for name, entry in read(BUILT_IN, "http://127.0.0.1").items()]
THINGS = 'capabilities."things.read"'
# What the entry says instead; the checks that fail; a key that the first of them names.
WRONG: list[tuple[dict[str, Any], set[str], str]] = [
    ({"authorize_url": "https://acme.example/elsewhere"}, {"authorize"}, "authorize_url"),
    ({"authorize_parameters": {}}, {"authorize"}, "authorize_parameters"),
    ({"client_id_parameter": "client_id"}, {"authorize"}, "client_id_parameter"),
    ({"scope_separator": " "}, {"authorize"}, "scope_separator"),
    ({"capabilities/things.read/optional": ["things.more"]}, {"authorize"}, "capabilities.*.requires"),
    ({"pkce": False}, {"authorize"}, "pkce"),
    ({"token_url": "https://acme.example/elsewhere"}, {"tokens"}, "token_url"),
    ({"token_auth": "post"}, {"tokens"}, "token_auth"),
    ({"exchange_parameters": {}}, {"tokens"}, "exchange_parameters"),
    ({"assumed_life": None}, {"lifetime"}, "assumed_life"),
    ({"variables/instance/field": "host.name"}, {"variables of the consent"}, "variables.instance.field"),
    ({"variables/realm/pattern": "[a-z]+"}, {"variables of the consent"}, "variables.realm.pattern"),
    ({"variables/instance/source": "identity"}, {"identity"}, "variables"),
    ({"granted_field": "scope"}, {"grants"}, "granted_field"),
    ({"implied": {}}, {"grants"}, "implied"),
    ({"identity/url": "https://{instance}/you?of={realm}"}, {"identity"}, "identity.url"),
    ({"identity/field": "data.user.number"}, {"identity"}, "identity.field"),
    ({"identity/field": "data.user.name"}, {"identity"}, "identity.field"),
    ({"identity/name_field": "data.user.nick"}, {"account's name"}, "identity.name_field"),
    ({"variables/tenant/field": "data.firm"}, {"variables of the identity"}, "variables.tenant.field"),
    ({"token_header": "Authorization"}, {"identity"}, "token_header"),
    ({"token_prefix": "Bearer "}, {"identity"}, "token_prefix"),
    ({"api_headers/X-Acme-Version": "1"}, {"identity"}, "api_headers"),
    ({"errors/none": []}, {"identity"}, "errors.none"),
    ({"errors/at": ["code"]}, {"identity"}, "errors.at"),
    ({"capabilities/things.read/probe/url": "https://{instance}/thing"}, {"things.read: probe"}, f"{THINGS}.probe"),
    ({"capabilities/things.read/call/method": "POST"}, {"things.read: call"}, f"{THINGS}.call"),
    ({"capabilities/files.read/call/answers": "json"}, {"files.read: call"}, 'capabilities."files.read".call'),
    (
        {"capabilities/things.read/requires": ["things.read", "things.extra"], "capabilities/things.read/optional": []},
        {"things.read: refused"},
        f"{THINGS}.requires",
    ),
    (
        {"capabilities/things.read/requires": [], "capabilities/things.read/optional": ["things.read"]},
        {"things.read: probe", "things.read: call"},
        f"{THINGS}.requires",
    ),
    ({"errors/scope": []}, {"things.read: refused", "things.write: refused"}, "errors.scope"),
    ({"refresh_by": {"grant_type": "renew"}}, {"refresh"}, "refresh_by"),
    ({"refresh_by": {"parameter": "token"}}, {"refresh"}, "refresh_by"),
    ({"rotates_refresh_token": False, "rotation_grace": "0s"}, {"rotation"}, "rotates_refresh_token"),
    ({"terminal_errors": []}, {"after the grace", "a revoked grant"}, "terminal_errors"),
    ({"errors/throttled": ["slower"]}, {"throttled in a word"}, "errors.throttled"),
    ({"errors/busy": ["tyred"]}, {"busy in a word"}, "errors.busy"),
    ({"errors/token": ["token_new"]}, {"access token not accepted"}, "errors.token"),
    ({"quota/remaining": "X-Left"}, {"quota"}, "quota"),
    ({"errors/operator": []}, {"a wrong client secret"}, "errors.operator"),
    ({"revoke_url": "https://acme.example/elsewhere"}, {"revoke"}, "revoke_url"),
    ({"introspect_url": "https://acme.example/elsewhere"}, {"introspection"}, "introspect_url"),
]
# The same where the right entry is another one than Acme's usual.
WRONG_BESIDE: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"rotates_refresh_token": False, "rotation_grace": "0s"}, {}, "rotation", "rotates_refresh_token"),
    ({"rotation_grace": "0s"}, {}, "within the grace", "rotation_grace"),
    ({"pkce": False}, {}, "pkce", "pkce"),
    ({"refresh_by": {"sends": "access_token"}}, {}, "refresh token", "refresh_by.sends"),
    (
        {"granted_field": "scope", "granted_separator": ";"},
        {"granted_field": "scope"},
        "grants",
        "granted_separator",
    ),
]
# What contradicts itself: said by the entry, and spoken by the simulator as well.
CONTRADICTORY: list[tuple[dict[str, Any], str, str]] = [
    ({"errors/busy": ["tired", "grant_gone"]}, "words", "errors.busy"),
    ({"errors/none": ["ok", "invalid_grant"]}, "words", "errors"),
    ({"always_ask": ["offline", "things.read"]}, "scopes", "always_ask"),
    ({"implied/things.admin": ["things.read"]}, "scopes", "implied.things.admin"),
    ({"capabilities/things.read/optional": ["things.read"]}, "scopes", f"{THINGS}.optional"),
    ({"capabilities/things.write/probe/url": "https://{instance}/things/new"}, "probes", ".probe"),
    ({"capabilities/things.read/probe/method": "PUT"}, "probes", f"{THINGS}.probe"),
    ({"refresh_lead": "2h"}, "times", "refresh_lead"),
    ({"variables/unused": {"source": "connection"}}, "variables", "variables.unused"),
    ({"webhook": {"scheme": "standard-webhooks", "header": "X-Id", "event": ["body:type"]}}, "webhook", "header"),
    ({"webhook/event": []}, "webhook", "webhook.event"),
]


@pytest_asyncio.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


async def checked(stage: Stage, entry: Provider, spoken: Provider | None = None) -> Outcome:
    async with httpx.AsyncClient(trust_env=False) as browser:
        return await contract(entry, stage, Visitor(browser), spoken=spoken)


def failures(outcome: Outcome) -> dict[str, tuple[str, ...]]:
    return {check.name: check.correct for check in outcome.checks if check.state is State.FAILED}


def _shown(value: object) -> str:
    """A test's name is the same in each process: sets have no order of their own."""
    return str(sorted(value) if isinstance(value, set) else value)[:60]


class TestARightEntry:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"flow": "client_credentials", "variables/realm/source": "connection"},
            {"refresh_by": {"grant_type": "swap", "parameter": "swap", "sends": "access_token"}}
            | {"rotates_refresh_token": False, "rotation_grace": "0s", "revoke_url": None},
            {"identity": {"url": "https://{instance}/{realm}", "variable": "realm"}},
        ],
    )
    async def test_passes(self, stage: Stage, changes: dict[str, Any]) -> None:
        outcome = await checked(stage, acme(changes))

        assert failures(outcome) == {}
        assert all(check.state is State.PASSED for check in outcome.checks)

    @pytest.mark.parametrize("entry", BUILT_IN_ENTRIES)
    async def test_is_each_of_the_built_in_catalog(self, stage: Stage, entry: Provider) -> None:
        assert failures(await checked(stage, entry)) == {}

    async def test_is_told_without_a_secret(self, stage: Stage) -> None:
        outcome = await checked(stage, acme())

        told = outcome.model_dump_json()
        secrets = (await stage.admin.get("/admin/secrets")).json()["secrets"]
        assert {secret["kind"] for secret in secrets} >= {"access_token", "refresh_token", "client_secret", "code"}
        assert [secret["kind"] for secret in secrets if secret["value"] in told] == []


class TestAWrongEntry:
    @pytest.mark.parametrize(("changes", "names", "key"), WRONG, ids=_shown)
    async def test_fails_where_it_is_wrong(
        self, stage: Stage, changes: dict[str, Any], names: set[str], key: str
    ) -> None:
        found = failures(await checked(stage, acme(changes), acme()))

        assert set(found) == names
        assert all(key in keys for keys in found.values())

    @pytest.mark.parametrize(("right", "more", "name", "key"), WRONG_BESIDE, ids=_shown)
    async def test_fails_where_another_one_is_right(
        self, stage: Stage, right: dict[str, Any], more: dict[str, Any], name: str, key: str
    ) -> None:
        found = failures(await checked(stage, acme(more), acme(right)))

        assert set(found) == {name}
        assert key in found[name]

    async def test_tells_what_it_did_not_get_to(self, stage: Stage) -> None:
        outcome = await checked(stage, acme({"token_auth": "post"}), acme())

        missed = [check.name for check in outcome.checks if check.state is State.NOT_REACHED]
        assert missed[0] == "grants"
        assert missed[-1] == "the grant's end"


class TestAContradictoryEntry:
    @pytest.mark.parametrize(("changes", "name", "key"), CONTRADICTORY, ids=_shown)
    async def test_is_caught_before_anybody_is_asked(
        self, stage: Stage, changes: dict[str, Any], name: str, key: str
    ) -> None:
        found = failures(await checked(stage, acme(changes)))

        assert name in found
        assert any(key in named for named in found[name])

    async def test_whose_identity_needs_one_capabilitys_grant_leaves_the_others_nameless(self, stage: Stage) -> None:
        entry = acme({"identity/url": "https://{instance}/things?limit=50"})

        found = failures(await checked(stage, entry))

        assert found["reach"] == ("identity.url",)

    async def test_with_a_pattern_that_nothing_fits_says_so(self, stage: Stage) -> None:
        found = await checked(stage, acme({"variables/region/pattern": "a(?!b)b"}))

        [dialect] = [check for check in found.checks if check.name == "dialect"]
        assert "variables.region.pattern" in dialect.heard

    async def test_whose_answers_cannot_be_built_says_so(self, stage: Stage) -> None:
        found = await checked(stage, acme({"identity/field": "0.id"}))

        [dialect] = [check for check in found.checks if check.name == "dialect"]
        assert "cannot be in one answer" in dialect.heard
