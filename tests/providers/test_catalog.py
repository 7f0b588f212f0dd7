import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from integrations.domain.errors import NotReadyError
from integrations.providers import catalog
from integrations.providers.catalog import Catalog
from integrations.providers.mistakes import CatalogError

HOST = "http://127.0.0.1:1"
ACME = """
[providers.acme]
name = "Acme"
authorize_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
identity = { url = "https://acme.example/user", field = "id" }
terminal_errors = ["bad_refresh_token"]
rotation_grace = "90s"

[providers.acme.capabilities."issues.write"]
access = "write"
requires = ["repo"]
optional = ["user"]
call = { method = "POST", url = "https://acme.example/issues" }
probe = { method = "GET", url = "https://acme.example/issues" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "providers.toml"


def refusal(file: Path, content: str | bytes) -> str:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CatalogError) as refused:
        catalog.load(file, HOST, {})
    return str(refused.value)


class TestTheBuiltInCatalog:
    def test_has_the_simulator_once_it_is_known_where_it_runs(self) -> None:
        assert "simulator" in {provider.id for provider in catalog.load(host=HOST)}
        assert "simulator" not in {provider.id for provider in catalog.load()}

    def test_has_every_provider_that_the_platform_connects(self) -> None:
        assert {provider.id for provider in catalog.load()} == {
            "github",
            "google-gmail",
            "google-drive",
            "google-docs",
            "google-calendar",
            "google-shopping",
            "slack",
            "salesforce",
            "microsoft",
            "hubspot",
            "shopify",
            "stripe",
            "facebook",
            "instagram",
            "tiktok",
            "pinterest",
            "amazon",
            "workday",
            "xero",
            "quickbooks",
        }

    def test_completes_the_simulators_addresses(self) -> None:
        simulator = catalog.load(host=HOST).provider("simulator")

        assert simulator.token_url == f"{HOST}/oauth/token"
        assert simulator.capability("notes.write").call.url == f"{HOST}/api/notes"
        assert "{host}" not in simulator.model_dump_json()

    def test_asks_for_every_grant_that_a_capability_wants(self) -> None:
        simulator = catalog.load(host=HOST).provider("simulator")

        assert simulator.asked_grants == ["notes.read", "notes.write", "profile"]
        assert simulator.optional_grants == frozenset()


class TestAnotherFile:
    def test_extends_the_built_in_one(self, file: Path) -> None:
        file.write_text(ACME)

        loaded = catalog.load(file, HOST)

        acme = loaded.provider("acme")
        assert {provider.id for provider in loaded} == {"acme", *(built_in.id for built_in in catalog.load(host=HOST))}
        assert (acme.rotation_grace, acme.refresh_lead) == (timedelta(seconds=90), timedelta(minutes=15))
        assert acme.terminal_errors == {"bad_refresh_token"}
        assert acme.asked_grants == ["repo", "user"]
        assert acme.optional_grants == {"user"}

    def test_replaces_an_entry_of_the_same_id(self, file: Path) -> None:
        file.write_text(ACME.replace("providers.acme", "providers.simulator"))

        loaded = catalog.load(file, HOST)

        assert loaded.provider("simulator").name == "Acme"

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (("rotation_grace", "rotation_grase"), "providers.acme.rotation_grase: .*did you mean 'rotation_grace'"),
            (("requires", "requiers"), r"capabilities\.\"issues\.write\"\.requiers: .*did you mean 'requires'"),
            (('field = "id"', 'feild = "id"'), r"providers\.acme\.identity\.(field|feild): "),
            (
                ('name = "Acme"', 'name = "Acme"\nzzz = 1'),
                "providers.acme.zzz: .*known are .*authorize_url.*token_url",
            ),
            (
                ('token_url = "https://acme.example/token"', ""),
                'providers.acme.token_url: is missing; it looks like token_url = "https://',
            ),
            (('"90s"', '"soon"'), 'rotation_grace: .*must be a duration like "90s", "15m", "12h" or "3d"'),
            (('"90s"', "90"), "rotation_grace: .*must be a duration"),
            (('access = "write"', 'access = "admin"'), "access: 'admin' is not known; known are read, write"),
            (('"POST"', '"STEAL"'), "call.method: "),
            (("[providers.acme]", "[provider.github]"), "unknown key 'provider'.*starts with .providers.ID."),
        ],
    )
    def test_with_a_mistake_is_refused_by_file_and_key(self, file: Path, change: Any, said: str) -> None:
        assert change[0] in ACME

        message = refusal(file, ACME.replace(*change))

        assert message.startswith(str(file))
        assert re.search(said, message)

    @pytest.mark.parametrize("content", ["[providers.acme\n", "providers = {", "a = 1\na = 2"])
    def test_that_is_no_toml_is_named(self, file: Path, content: str) -> None:
        assert str(file) in refusal(file, content)

    def test_that_is_not_there_is_named(self, file: Path) -> None:
        with pytest.raises(CatalogError, match=r"providers\.toml"):
            catalog.load(file, HOST)

    @pytest.mark.parametrize("content", [b"providers = 5", b'[providers]\ngithub = "x"', b"\xff\xfe"])
    def test_of_another_shape_is_named(self, file: Path, content: bytes) -> None:
        assert str(file) in refusal(file, content)

    def test_cannot_give_an_entry_a_second_id(self, file: Path) -> None:
        assert "providers.acme.id" in refusal(file, ACME.replace('name = "Acme"', 'name = "Acme"\nid = "gl"'))


class TestLookingUp:
    def test_a_provider_that_is_not_there_names_the_nearest(self) -> None:
        with pytest.raises(CatalogError, match="no provider 'simulater'; did you mean 'simulator'"):
            catalog.load(host=HOST).provider("simulater")

    def test_a_provider_in_an_empty_catalog_says_so(self) -> None:
        with pytest.raises(CatalogError, match="no provider 'github'; known are none"):
            Catalog({}).provider("github")

    def test_a_capability_that_is_not_there_names_the_nearest(self) -> None:
        with pytest.raises(
            CatalogError, match=r"Simulator has no capability 'note\.write'; did you mean 'notes\.write'"
        ):
            catalog.load(host=HOST).provider("simulator").capability("note.write")


class TestTheClientsCredentials:
    ID, SECRET = "RUNBOOK_PROVIDER_GIT_HUB_CLIENT_ID", "RUNBOOK_PROVIDER_GIT_HUB_CLIENT_SECRET"

    def test_come_from_the_environment(self) -> None:
        found = catalog.load(environment={self.ID: "us", self.SECRET: "hush"}).credentials("git-hub")

        assert (found.client_id, found.client_secret.get_secret_value()) == ("us", "hush")
        assert "hush" not in repr(found)

    @pytest.mark.parametrize("missing", [ID, SECRET])
    @pytest.mark.parametrize("how", ["unset", "empty"])
    def test_that_are_missing_are_named(self, missing: str, how: str) -> None:
        environment = {self.ID: "us", self.SECRET: "hush"}
        if how == "unset":
            del environment[missing]
        else:
            environment[missing] = ""

        with pytest.raises(NotReadyError, match=f"^{missing} is not set"):
            catalog.load(environment=environment).credentials("git-hub")
