import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.errors import NotReadyError
from integrations.providers import catalog
from integrations.providers.entry import Provider, Variable
from integrations.providers.mistakes import CatalogError

ACME = """
[providers.acme]
name = "Acme"
authorize_url = "https://{shop}.acme.example/authorize"
token_url = "https://{shop}.acme.example/token"
identity = { url = "https://api.acme.example/me", field = "data.0.id" }
terminal_errors = ["gone"]
implied = { "a.write" = ["a.read"], "a.admin" = ["a.write"] }

[providers.acme.errors]
at = ["error.code"]
scope = ["10", "200-203"]

[providers.acme.variables.shop]
source = "connection"
pattern = '([a-z]+)(?:\\.acme\\.example)?'
about = "the shop's name"

[providers.acme.variables.company]
source = "token"
field = "more.company"

[providers.acme.capabilities."a.read"]
access = "read"
requires = ["a.read"]
call = { method = "GET", url = "https://api.acme.example/{company}/a" }
probe = { method = "GET", url = "https://api.acme.example/{company}/a" }

[providers.acme.webhook]
scheme = "hmac-sha256"
header = "X-Signature"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "providers.toml"


def entry(file: Path, text: str = ACME) -> Provider:
    file.write_text(text)
    [found] = catalog.read(file).values()
    return found


def refusal(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(CatalogError) as refused:
        catalog.read(file)
    return str(refused.value)


def without(line: str) -> str:
    [found] = [each for each in ACME.splitlines() if each.startswith(line)]
    return ACME.replace(f"{found}\n", "", 1)


class TestAMistake:
    """Each is told with the file, the key, and what would be right."""

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (ACME.replace("token_url", "tokn_url"), "providers.acme.tokn_url: unknown key; did you mean 'token_url'?"),
            (without("token_url"), 'providers.acme.token_url: is missing; it looks like token_url = "https://..."'),
            (without("identity"), "providers.acme.identity: is missing; it looks like identity = { url = "),
            (
                ACME.replace("hmac-sha256", "hmac-sha265"),
                "providers.acme.webhook.scheme: 'hmac-sha265' is not known; did you mean 'hmac-sha256'?",
            ),
            (
                ACME.replace("https://api.acme.example/me", "htps://api.acme.example/me"),
                "providers.acme.identity.url: 'htps://api.acme.example/me' must start with https://",
            ),
            (
                without("probe ="),
                'providers.acme.capabilities."a.read".probe: is missing; it looks like probe = { method = "GET"',
            ),
            (
                f'{ACME}\n[providers.acme]\nname = "Another"',
                "providers.acme stands in line 2 and again in line 33: give one of them another id",
            ),
            (
                ACME + ACME.replace("providers.acme", "providers.other"),
                None,
            ),
            (ACME.replace("providers.acme", "providers.Acme"), "providers.Acme.id: String should match pattern"),
            (
                ACME.replace("{shop}.acme.example/token", "{shap}.acme.example/token"),
                "token_url: there is no variable 'shap'; did you mean 'shop'?",
            ),
            (ACME.replace(', field = "data.0.id"', ""), 'identity: needs either field = "..." or variable = "..."'),
            (
                ACME.replace('field = "data.0.id"', 'variable = "shopp"'),
                "identity.variable: there is no variable 'shopp'; did you mean 'shop'?",
            ),
            (ACME.replace('source = "token"', 'source = "tokens"'), "'tokens' is not known; did you mean 'token'?"),
            (ACME.replace("'([a-z]+)(", "'([a-z]+(("), "variables.shop.pattern: .* is no regular expression"),
            (ACME.replace('["a.read"]\ncall', '[""]\ncall'), "requires"),
            (f'[families.big]\nname = "B"\n{ACME}family = "bigg"'.replace('header = "X-Signature"\n', ""), "family"),
            (ACME.replace("https://api.acme.example/me", "http://api.acme.example/me"), "identity.url: "),
            (ACME.replace("https://api.acme.example/me", "https://u:p@api.acme.example/me"), "no user name"),
            (ACME.replace("https://api.acme.example/me", "https://"), "name a host"),
            (ACME.replace("api.acme.example/me", "{host}/me"), "RUNBOOK_SIMULATOR_URL is not set"),
            (
                ACME + 'reactions = { "app.gone" = "uninstaled" }',
                "providers.acme.webhook.reactions.\"app.gone\": 'uninstaled' is not known; did you mean 'uninstalled'?",
            ),
            (
                ACME + 'delivery_id = ["X-Delivery", "body.id"]',
                "providers.acme.webhook.delivery_id.1: 'body.id' is no place: it is a header's name, or \"body:\" and",
            ),
            (ACME + 'delivery_id = ["X-Id+x-signature"]', "'x-signature' is what proves a delivery"),
            (ACME + 'accounts = { gone = ["X-SIGNATURE"] }', "'X-SIGNATURE' is what proves a delivery"),
            (ACME + 'event = ["X-Event+"]', "providers.acme.webhook.event.0: 'X-Event+' is no place"),
            (ACME + 'account = ["body:all.*"]', "providers.acme.webhook.account.0: 'body:all.*' is no place"),
            (ACME + 'account = ["body:"]', "providers.acme.webhook.account.0: 'body:' is no place"),
            (ACME + 'coalesce = "5s"', "providers.acme.webhook: coalesce needs resource = "),
            (
                ACME.replace('header = "X-Signature"\n', ""),
                "providers.acme.webhook: scheme 'hmac-sha256' needs header = ",
            ),
            (ACME.replace('"hmac-sha256"', '"stripe"'), "providers.acme.webhook: scheme 'stripe' needs prefix = "),
            (ACME + 'greeting = "hub-chalenge"', "'hub-chalenge' is not known; did you mean 'hub-challenge'?"),
            (ACME.replace('"X-Signature"', '"X Signature"'), "providers.acme.webhook.header: "),
        ],
    )
    def test_is_refused_by_file_key_and_the_nearest_right_one(self, file: Path, text: str, said: str | None) -> None:
        if said is None:
            file.write_text(text)
            assert set(catalog.read(file)) == {"acme", "other"}
            return

        message = refusal(file, text)

        assert all(line.startswith(f"{file}: ") for line in message.splitlines())
        assert said in message or re.search(said, message)

    @pytest.mark.parametrize(
        "address", ["https://api.acme.example/m e", "https://api.acme.example/me#top", "https://api.acme.example/\\tme"]
    )
    def test_of_an_address_with_what_none_may_hold_is_refused(self, file: Path, address: str) -> None:
        message = refusal(file, ACME.replace("https://api.acme.example/me", address))

        assert "providers.acme.identity.url: " in message
        assert "must hold no user name, no fragment and no space" in message

    @pytest.mark.parametrize("given", ["90", "s", "1.5h", "1w", "-5m", " 5m", "9999999d"])
    def test_of_a_duration_says_how_one_is_written(self, file: Path, given: str) -> None:
        text = ACME.replace("implied =", f'rotation_grace = "{given}"\nimplied =')

        assert 'providers.acme.rotation_grace: must be a duration like "90s"' in refusal(file, text)

    def test_of_an_identity_that_is_told_twice_is_refused(self, file: Path) -> None:
        twice = ACME.replace('field = "data.0.id"', 'field = "data.0.id", variable = "company"')

        assert 'identity: needs either field = "..." or variable = "..."' in refusal(file, twice)

    @pytest.mark.parametrize(
        ("old", "new", "key"),
        [
            ("https://{shop}.acme.example/authorize", "https://{nobody}.acme.example/authorize", "authorize_url"),
            ("https://api.acme.example/me", "https://api.acme.example/{nobody}/me", "identity.url"),
            (
                'call = { method = "GET", url = "https://api',
                'call = { method = "GET", url = "https://{nobody}',
                "call.url",
            ),
            (
                'probe = { method = "GET", url = "https://api',
                'probe = { method = "GET", url = "https://{nobody}',
                "probe.url",
            ),
            ("implied =", 'revoke_url = "https://{nobody}.acme.example/"\nimplied =', "revoke_url"),
            ("implied =", 'introspect_url = "https://{nobody}.acme.example/"\nimplied =', "introspect_url"),
            ("implied =", 'api_headers = { X-Company = "{nobody}" }\nimplied =', "api_headers.X-Company"),
        ],
    )
    def test_of_a_placeholder_is_found_wherever_one_may_stand(self, file: Path, old: str, new: str, key: str) -> None:
        assert old in ACME

        assert f"{key}: there is no variable 'nobody'" in refusal(file, ACME.replace(old, new))

    def test_is_told_together_with_the_others(self, file: Path) -> None:
        message = refusal(
            file, without("token_url").replace("terminal_errors", "terminal_eror").replace("at =", "att =")
        )

        assert len(message.splitlines()) == 3
        assert "'terminal_errors'" in message
        assert "errors.att: unknown key; did you mean 'at'?" in message

    def test_of_a_name_is_told_once_and_not_as_a_missing_key_too(self, file: Path) -> None:
        assert len(refusal(file, ACME.replace("token_url", "tokn_url")).splitlines()) == 1

    def test_of_two_ids_with_the_same_secrets_is_refused(self, file: Path) -> None:
        twins = ACME.replace("providers.acme", "providers.ac-me") + ACME.replace("providers.acme", "providers.ac_me")

        assert "'ac-me' already reads RUNBOOK_PROVIDER_AC_ME_CLIENT_ID" in refusal(file, twins)


class TestAFamily:
    def test_gives_what_an_entry_does_not_say_itself(self, file: Path) -> None:
        shared = (
            '[families.big]\nname = "Big"\nscope_separator = ","\n[families.big.errors]\nbusy = ["b"]\nscope = ["x"]\n'
        )
        text = shared + ACME.replace('name = "Acme"', 'name = "Acme"\nfamily = "big"')

        found = entry(file, text)

        assert (found.name, found.scope_separator) == ("Acme", ",")
        assert (found.errors.busy, "x" in found.errors.scope, "200" in found.errors.scope) == ({"b"}, False, True)

    def test_that_is_not_there_names_the_nearest(self, file: Path) -> None:
        text = '[families.big]\nname = "Big"\n' + ACME.replace('name = "Acme"', 'family = "bigg"')

        assert "providers.acme.family: there is no family 'bigg'; did you mean 'big'?" in refusal(file, text)


class TestVariables:
    def test_complete_addresses(self, file: Path) -> None:
        found = entry(file)

        assert found.fill(found.token_url, {"shop": "blue"}) == "https://blue.acme.example/token"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "https://{shop}.acme.example",
                r"Acme needs 'shop' \(the shop's name\): add the connection with --set shop=",
            ),
            ("https://api.acme.example/{company}", "Acme needs 'company', which its token answer gives: consent again"),
        ],
    )
    def test_that_are_not_known_are_named_with_the_way_out(self, file: Path, text: str, said: str) -> None:
        with pytest.raises(NotReadyError, match=said):
            entry(file).fill(text, {})

    @pytest.mark.parametrize(
        ("given", "value"),
        [
            ("blue", "blue"),
            ("blue.acme.example", "blue"),
            ("blue.evil.example", None),
            ("blue/../x", None),
            ("Blue", None),
            ("", None),
            (7, None),
            (None, None),
            (["blue"], None),
        ],
    )
    def test_are_taken_only_in_their_pattern(self, file: Path, given: Any, value: str | None) -> None:
        assert entry(file).variables["shop"].read(given) == value

    def test_are_no_flags(self) -> None:
        assert Variable(source="token").read(True) is None

    def test_that_nobody_gave_are_what_the_entry_takes_by_itself(self, file: Path) -> None:
        found = entry(file, ACME.replace('about = "the shop\'s name"', 'default = "main"'))

        assert found.fill(found.token_url, {}) == "https://main.acme.example/token"
        assert found.fill(found.token_url, {"shop": "blue"}) == "https://blue.acme.example/token"

    @pytest.mark.parametrize("kept", [7, True, None, ["blue"]])
    def test_are_text_and_nothing_else_of_a_row(self, file: Path, kept: Any) -> None:
        found = entry(file)

        with pytest.raises(NotReadyError, match="needs 'shop'"):
            found.fill(found.token_url, {"shop": kept})

    def test_come_from_where_the_entry_says(self, file: Path) -> None:
        found = entry(file)

        assert found.values_of("token", {"more": {"company": 42}, "shop": "blue"}) == {"company": "42"}
        assert found.values_of("callback", {"company": "42"}) == {}

    @given(st.text(max_size=30))
    def test_without_a_pattern_of_their_own_leave_no_address(self, text: str) -> None:
        value = Variable(source="token").read(text)

        assert value is None or not set(value) & set("/:@?#%{} \n")


class TestWhatIsKnownOfGrantsAndErrors:
    def test_a_range_of_codes_is_each_of_them(self, file: Path) -> None:
        assert entry(file).vocabulary.scope == {"10", "200", "201", "202", "203"}
        assert entry(file).vocabulary.terminal == {"gone"}

    def test_a_grant_brings_along_what_it_implies(self, file: Path) -> None:
        assert entry(file).with_implied(["a.admin", "b"]) == {"a.admin", "a.write", "a.read", "b"}
