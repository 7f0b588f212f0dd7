from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from integrations.domain.verdict import Meaning, Trouble
from integrations.providers.catalog import ClientCredentials
from integrations.providers.entry import Provider
from integrations.providers.oauth import OAuthClient, Providers
from tests.factories import EVERYTHING
from tests.providers.person import CALLBACK, Person


@pytest.fixture
def client(providers: Providers) -> OAuthClient:
    return providers.client("simulator")


def scripted(provider: Provider, status: int, body: Any, **changes: Any) -> tuple[OAuthClient, list[httpx.Request]]:
    """A client whose provider answers from a script, and the requests it saw."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, json=body)

    credentials = ClientCredentials(client_id="us", client_secret=SecretStr("hush"))
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return OAuthClient(provider.model_copy(update=changes), credentials, http), seen


class TestTheAddressForTheOwner:
    def test_carries_what_the_provider_needs_and_no_secret(self, client: OAuthClient) -> None:
        address = client.authorize_url(
            redirect_uri=CALLBACK, grants=["profile", "notes.read"], state="the-state", verifier="v" * 43
        )

        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert address.startswith(f"{client.provider.authorize_url}?")
        assert query.pop("code_challenge") not in {"", "v" * 43}
        assert query == {
            "response_type": "code",
            "client_id": "runbook",
            "redirect_uri": CALLBACK,
            "scope": "profile notes.read",
            "state": "the-state",
            "code_challenge_method": "S256",
        }

    def test_separates_grants_as_the_provider_does_and_may_go_without_a_challenge(self, client: OAuthClient) -> None:
        other, _ = scripted(client.provider, 200, {}, scope_separator=",", pkce=False)

        address = other.authorize_url(redirect_uri=CALLBACK, grants=["a", "b"], state="s", verifier="v")

        query = parse_qs(urlsplit(address).query)
        assert query["scope"] == ["a,b"]
        assert "code_challenge" not in query


class TestExchanging:
    async def test_a_code_brings_tokens_and_grants(self, client: OAuthClient, person: Person) -> None:
        code, verifier = await person.gives(client)

        answer = await client.exchange(code, redirect_uri=CALLBACK, verifier=verifier)

        assert answer.verdict.meaning is Meaning.OK
        assert answer.granted is not None
        assert sorted(answer.granted.grants or ()) == EVERYTHING
        assert answer.granted.refresh_token is not None
        assert answer.granted.expires_at is not None
        [seen] = await person.requests("/oauth/token")
        assert seen["detail"]["pkce"] == "verified"
        for token in (answer.granted.access_token, answer.granted.refresh_token):
            assert token.get_secret_value() not in repr(answer)

    async def test_names_only_what_was_given(self, client: OAuthClient, person: Person) -> None:
        code, verifier = await person.gives(client, only=["profile"])

        answer = await client.exchange(code, redirect_uri=CALLBACK, verifier=verifier)

        assert answer.granted is not None
        assert answer.granted.grants == ("profile",)

    async def test_with_another_verifier_is_refused(self, client: OAuthClient, person: Person) -> None:
        code, _ = await person.gives(client)

        answer = await client.exchange(code, redirect_uri=CALLBACK, verifier="w" * 64)

        assert (answer.verdict.meaning, answer.granted) == (Meaning.OWNER_MUST_ACT, None)

    async def test_a_code_twice_is_refused(self, client: OAuthClient, person: Person) -> None:
        code, verifier = await person.gives(client)
        await client.exchange(code, redirect_uri=CALLBACK, verifier=verifier)

        answer = await client.exchange(code, redirect_uri=CALLBACK, verifier=verifier)

        assert (answer.heard.words, answer.granted) == ("400 invalid_grant", None)


class TestRefreshing:
    async def test_brings_the_next_tokens(self, client: OAuthClient, person: Person) -> None:
        granted = await person.connects(client)
        assert granted.refresh_token is not None

        answer = await client.refresh(granted.refresh_token)

        assert answer.granted is not None
        assert answer.granted.refresh_token not in {None, granted.refresh_token}

    async def test_a_revoked_grant_is_the_owners(self, client: OAuthClient, person: Person) -> None:
        granted = await person.connects(client)
        assert granted.refresh_token is not None
        await person.revokes()

        answer = await client.refresh(granted.refresh_token)

        assert (answer.heard.words, answer.verdict.meaning) == ("400 invalid_grant", Meaning.OWNER_MUST_ACT)

    async def test_with_a_wrong_client_secret_is_the_operators(self, client: OAuthClient, person: Person) -> None:
        granted = await person.connects(client)
        assert granted.refresh_token is not None
        wrong = ClientCredentials(client_id="runbook", client_secret=SecretStr("wrong"))

        answer = await OAuthClient(client.provider, wrong, client._http).refresh(granted.refresh_token)

        assert answer.verdict.meaning is Meaning.OPERATOR_MUST_ACT

    async def test_in_an_outage_says_nothing_about_the_grant(self, client: OAuthClient, person: Person) -> None:
        granted = await person.connects(client)
        assert granted.refresh_token is not None
        await person.breaks(kind="status", status=503, retry_after=9, body={"error": "invalid_grant"})

        answer = await client.refresh(granted.refresh_token)

        assert answer.verdict.meaning is Meaning.OUTAGE
        assert answer.verdict.after is not None
        assert answer.verdict.after.total_seconds() == 9

    async def test_whose_answer_is_dropped_is_lost(self, client: OAuthClient, person: Person) -> None:
        granted = await person.connects(client)
        assert granted.refresh_token is not None
        await person.breaks(kind="drop", path="/oauth/token")

        answer = await client.refresh(granted.refresh_token)

        assert (answer.heard.trouble, answer.verdict.meaning) == (Trouble.LOST, Meaning.OUTAGE)


class TestTheTokenEndpointsAnswer:
    @pytest.mark.parametrize("body", [{}, [], "text", None, {"access_token": None}, {"access_token": 7}])
    async def test_without_a_token_is_a_lost_one(self, client: OAuthClient, body: Any) -> None:
        other, _ = scripted(client.provider, 200, body)

        answer = await other.refresh(SecretStr("r"))

        assert answer.verdict.meaning in {Meaning.UNKNOWN, Meaning.OUTAGE}
        assert answer.granted is None
        assert answer.heard.trouble is Trouble.LOST

    @pytest.mark.parametrize("token", ["", "two\nlines", "tökén"])
    async def test_with_a_token_that_is_none_is_a_lost_one(self, client: OAuthClient, token: str) -> None:
        other, _ = scripted(client.provider, 200, {"access_token": token})

        assert (await other.refresh(SecretStr("r"))).granted is None

    async def test_inside_a_200_may_be_an_error(self, client: OAuthClient) -> None:
        other, _ = scripted(client.provider, 200, {"error": "bad_refresh_token"}, terminal_errors={"bad_refresh_token"})

        assert (await other.refresh(SecretStr("r"))).verdict.meaning is Meaning.OWNER_MUST_ACT

    @pytest.mark.parametrize("seconds", [-1, "-1", "soon", "9" * 16, True, None, [3600]])
    async def test_with_an_absurd_lifetime_is_taken_all_the_same(self, client: OAuthClient, seconds: Any) -> None:
        other, _ = scripted(client.provider, 200, {"access_token": "a", "expires_in": seconds})

        answer = await other.refresh(SecretStr("r"))

        assert answer.granted is not None
        assert answer.granted.expires_at is None

    @pytest.mark.parametrize(("seconds", "told"), [(60, 60), (1.5, 1.5), ("3599", 3599), (10**30, 315_360_000)])
    async def test_tells_its_lifetime_as_a_number_or_as_text(
        self, client: OAuthClient, seconds: Any, told: float
    ) -> None:
        other, _ = scripted(client.provider, 200, {"access_token": "a", "expires_in": seconds})

        granted = (await other.refresh(SecretStr("r"))).granted

        assert granted is not None
        assert granted.expires_at is not None
        assert abs((granted.expires_at - datetime.now(UTC)).total_seconds() - told) < 5

    async def test_without_a_lifetime_has_the_one_that_the_catalog_assumes(self, client: OAuthClient) -> None:
        other, _ = scripted(client.provider, 200, {"access_token": "a"}, assumed_life=timedelta(hours=2))

        granted = (await other.refresh(SecretStr("r"))).granted

        assert granted is not None
        assert granted.expires_at is not None
        assert granted.expires_at > datetime.now(UTC) + timedelta(hours=1)

    async def test_without_a_scope_leaves_the_grants_open(self, client: OAuthClient) -> None:
        other, _ = scripted(client.provider, 200, {"access_token": "a", "refresh_token": ""})

        answer = await other.refresh(SecretStr("r"))

        assert answer.granted is not None
        assert (answer.granted.grants, answer.granted.refresh_token) == (None, None)

    @pytest.mark.parametrize("scope", ["", " ", [], None, 7])
    async def test_with_a_scope_that_is_none_leaves_the_grants_open_too(self, client: OAuthClient, scope: Any) -> None:
        other, _ = scripted(client.provider, 200, {"access_token": "a", "scope": scope})

        granted = (await other.refresh(SecretStr("r"))).granted

        assert granted is not None
        assert granted.grants is None

    async def test_may_name_its_scopes_as_a_list_elsewhere(self, client: OAuthClient) -> None:
        body = {"access_token": "a", "scopes": ["notes.read", "profile"]}
        other, _ = scripted(client.provider, 200, body, granted_field="scopes")

        granted = (await other.refresh(SecretStr("r"))).granted

        assert granted is not None
        assert granted.grants == ("notes.read", "profile")

    async def test_is_read_with_the_providers_own_separator(self, client: OAuthClient) -> None:
        other, _ = scripted(client.provider, 200, {"access_token": "a", "scope": "b,c"}, scope_separator=",")

        answer = await other.refresh(SecretStr("r"))

        assert answer.granted is not None
        assert answer.granted.grants == ("b", "c")


class TestTheClientsSecret:
    @pytest.mark.parametrize(("how", "in_header", "in_form"), [("basic", True, False), ("post", False, True)])
    async def test_goes_where_the_provider_wants_it(
        self, client: OAuthClient, how: str, in_header: bool, in_form: bool
    ) -> None:
        other, seen = scripted(client.provider, 200, {"access_token": "a"}, token_auth=how)

        await other.refresh(SecretStr("r"))

        [request] = seen
        assert request.headers.get("authorization", "").startswith("Basic ") is in_header
        assert (b"client_secret=hush" in request.content) is in_form
        assert "hush" not in str(request.url)


class TestTheIdentity:
    async def test_is_the_accounts_own_id_and_name(self, client: OAuthClient, person: Person) -> None:
        granted = await person.connects(client)

        answer = await client.identity(granted.access_token)

        assert answer.account is not None
        assert (answer.account.id, answer.account.name) == (person.id, person.email)

    async def test_of_a_dead_token_is_refused(self, client: OAuthClient) -> None:
        answer = await client.identity(SecretStr("sim_at_nobodys"))

        assert (answer.account, answer.verdict.meaning) == (None, Meaning.OWNER_MUST_ACT)

    @pytest.mark.parametrize("body", [{}, [], None, {"id": None}, {"id": {"a": 1}}])
    async def test_without_its_field_is_unknown(self, client: OAuthClient, body: Any) -> None:
        other, _ = scripted(client.provider, 200, body)

        answer = await other.identity(SecretStr("a"))

        assert (answer.account, answer.verdict.meaning) == (None, Meaning.UNKNOWN)
        assert "'id'" in answer.verdict.because

    async def test_may_be_a_number(self, client: OAuthClient) -> None:
        other, _ = scripted(client.provider, 200, {"id": 42, "email": 7})

        answer = await other.identity(SecretStr("a"))

        assert answer.account is not None
        assert (answer.account.id, answer.account.name) == ("42", None)


class TestACall:
    async def test_reaches_the_api_with_its_idempotency_key(self, client: OAuthClient, person: Person) -> None:
        granted = await person.connects(client)
        write = client.provider.capability("notes.write").call

        answers = [
            await client.call(write, granted.access_token, payload={"text": "hi"}, idempotency_key="key-1")
            for _ in range(2)
        ]

        assert [answer.heard.status for answer in answers] == [201, 200]
        assert answers[0].body == answers[1].body
        seen = await person.requests("/api/notes", "POST")
        assert [row["detail"]["idempotency_key"] for row in seen] == ["key-1", "key-1"]

    async def test_without_the_grant_is_the_owners(self, client: OAuthClient, person: Person) -> None:
        code, verifier = await person.gives(client, only=["profile"])
        granted = (await client.exchange(code, redirect_uri=CALLBACK, verifier=verifier)).granted
        assert granted is not None

        answer = await client.call(client.provider.capability("notes.read").call, granted.access_token)

        assert answer.heard.words == "403 insufficient_scope"
        assert client.judge_call(answer).meaning is Meaning.OWNER_MUST_ACT

    @pytest.mark.parametrize("error", ["Your token is not valid any more.", {"code": 190, "message": "expired"}])
    async def test_answered_200_with_an_error_in_words_is_no_success(self, client: OAuthClient, error: Any) -> None:
        other, _ = scripted(client.provider, 200, {"error": error})

        answer = await other.call(client.provider.capability("notes.read").call, SecretStr("a"))

        assert other.judge_call(answer).meaning is not Meaning.OK
