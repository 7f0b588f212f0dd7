"""From a catalog entry to what the simulator is told to speak: pure."""

import re

import pytest

from integrations.providers.catalog import BUILT_IN, read
from integrations.providers.entry import Provider, Variable
from simulator.dialect import Dialect
from starters.contract.addresses import moved
from starters.contract.dialect import needs, speak, strictness
from starters.contract.samples import NoSampleError, samples
from tests.starters.acme import acme

BUILT_IN_ENTRIES = read(BUILT_IN, "http://127.0.0.1")
TOLD = {"region": "eu-1", "realm": "4711", "instance": "https://abc.acme.example/", "tenant": "blue"}


def variables(*patterns: str) -> dict[str, Variable]:
    return {f"v{n}": Variable(source="connection", pattern=pattern) for n, pattern in enumerate(patterns)}


class TestADialect:
    @pytest.mark.parametrize("entry", BUILT_IN_ENTRIES.values(), ids=BUILT_IN_ENTRIES)
    def test_of_every_built_in_entry_is_one_that_the_simulator_takes(self, entry: Provider) -> None:
        dialect = Dialect.model_validate(speak(entry, samples(entry.variables), "us"))

        paths = [dialect.authorize, dialect.token, *(each.path for each in (dialect.identity, *dialect.endpoints))]
        assert not any("{" in path for path in paths)

    def test_has_the_entrys_addresses_complete_and_under_its_hosts(self) -> None:
        dialect = speak(acme(), TOLD, "us")

        assert dialect["authorize"] == "/acme.example/login/eu-1/authorize"
        assert dialect["identity"]["path"] == "/abc.acme.example/me?of=4711"
        assert dialect["endpoints"][1]["path"] == "/abc.acme.example/things?limit=1"

    def test_tells_each_variable_where_the_entry_looks_for_it(self) -> None:
        dialect = speak(acme(), TOLD, "us")

        assert dialect["callback"] == {"realmId": "4711"}
        assert dialect["token_members"] == {"host.url": "https://abc.acme.example/"}
        assert dialect["identity"]["members"] == {"data.tenant": "blue"}

    def test_wants_of_the_identity_no_header_that_only_its_answer_tells(self) -> None:
        dialect = speak(acme(), TOLD, "us")

        assert dialect["identity"]["headers"] == {"X-Acme-Version": "2"}
        assert dialect["endpoints"][0]["headers"] == {"X-Acme-Version": "2", "X-Acme-Tenant": "blue"}

    def test_says_the_providers_own_words_inside_a_success(self) -> None:
        words = speak(acme({"terminal_errors": ["gone", "190"]}), TOLD, "us")["words"]

        assert words["invalid_grant"] == {"word": 190, "status": 200}
        assert words["too_many_requests"] == {"word": "slow", "status": None}

    def test_says_rfc_words_where_the_entry_has_none(self) -> None:
        dialect = speak(BUILT_IN_ENTRIES["simulator"], {}, "us")

        assert (dialect["words"], dialect["api_error_at"], dialect["api_members"]) == ({}, "error", {})

    def test_tells_no_lifetime_where_the_entry_assumes_one(self) -> None:
        assert speak(acme(), TOLD, "us")["expires_in"] == "absent"
        assert speak(acme({"assumed_life": None}), TOLD, "us")["expires_in"] == "number"

    def test_is_as_strict_as_the_entry_says(self) -> None:
        assert strictness(acme()) == {
            "pkce_required": True,
            "rotate": True,
            "rotation_grace_s": 60,
            "reuse_detection": True,
            "introspection": True,
            "client_credentials": False,
        }


class TestWhatAnAddressNeeds:
    def test_is_what_the_capability_that_calls_it_requires_whoever_else_probes_it(self) -> None:
        entry = acme(
            {"capabilities/things.write/probe": {"method": "GET", "url": "https://{instance}/things?limit=50"}}
        )

        assert needs(entry, entry.capabilities["things.write"].probe) == [["things.read"]]

    def test_is_any_of_what_those_require_that_only_probe_it(self) -> None:
        entry = acme({"capabilities/things.write/probe": {"method": "GET", "url": "https://{instance}/things?limit=1"}})

        assert needs(entry, entry.capabilities["things.write"].probe) == [["things.read"], ["things.write"]]

    def test_is_nothing_where_a_capability_requires_nothing(self) -> None:
        assert needs(acme(), acme().capabilities["files.read"].call) == []


class TestAMovedEntry:
    def test_has_every_address_at_the_simulator_and_is_the_same_beside(self) -> None:
        entry = acme()

        there = moved(entry, "http://127.0.0.1:9")

        assert there.authorize_url == "http://127.0.0.1:9/acme.example/login/{region}/authorize"
        assert there.model_dump_json().count("http://127.0.0.1:9/") == entry.model_dump_json().count("https://") - 2
        assert there.vocabulary == entry.vocabulary


class TestASample:
    @pytest.mark.parametrize(
        "pattern",
        [
            r"[0-9]{1,20}",
            r"\d+-\w*",
            r"(?:eu|us)\.example",
            r"[^/]+",
            r"(?!\.{1,2}$)[A-Za-z.]{1,3}",
            r"https://([a-z0-9](?:[a-z0-9\-]*[a-z0-9])?\.salesforce\.com)/?",
            r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
        ],
    )
    def test_is_of_its_pattern(self, pattern: str) -> None:
        assert re.fullmatch(pattern, samples(variables(pattern))["v0"])

    def test_is_the_same_in_every_run_and_another_one_for_each_variable(self) -> None:
        first, second = samples(variables(*["[a-h]"] * 8)), samples(variables(*["[a-h]"] * 8))

        assert first == second
        assert sorted(first.values()) == list("abcdefgh")

    def test_is_the_default_where_there_is_one(self) -> None:
        assert samples({"v": Variable(source="connection", default="common")}) == {"v": "common"}

    def test_of_a_pattern_that_nothing_fits_is_refused_by_name(self) -> None:
        with pytest.raises(NoSampleError, match=r"variables\.v0\.pattern"):
            samples(variables("a(?!b)b"))
