"""What would be found out at 3 a.m. when it is wrong in docker-compose.temporal.yml."""

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from yaml import safe_load

from integrations import settings, temporal
from starters.embedded.temporal_namespace import RETENTION
from starters.embedded.temporal_options import DYNAMIC_CONFIG
from tests.deploy import reading as files
from web.health import router
from worker.wiring import _GRACE

SERVICES = files.services()
APPLICATION = [name for name, service in SERVICES.items() if "build" in service]


def waited_for(condition: str) -> set[str]:
    return {
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == condition
    }


ONCE = waited_for("service_completed_successfully")


def test_services_are_the_ones_that_this_file_is_about() -> None:
    assert set(APPLICATION) == {"migrate", "worker", "web"}
    assert {"temporal-schema", "temporal-namespace", "migrate"} == ONCE


@pytest.mark.parametrize("name", SERVICES)
class TestEveryService:
    def test_has_an_image_pinned_to_a_release(self, name: str) -> None:
        assert re.fullmatch(r"[a-z/\-]+:\d+\.\d+[\w.\-]*", SERVICES[name]["image"])

    def test_publishes_on_this_machine_only(self, name: str) -> None:
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in SERVICES[name].get("ports", []))

    def test_runs_once_or_is_started_again(self, name: str) -> None:
        assert SERVICES[name]["restart"] == ("no" if name in ONCE else "unless-stopped")

    def test_waits_for_what_there_is(self, name: str) -> None:
        conditions = {how["condition"] for how in SERVICES[name].get("depends_on", {}).values()}

        assert set(SERVICES[name].get("depends_on", {})) <= set(SERVICES)
        assert conditions <= {"service_healthy", "service_completed_successfully"}

    def test_rotates_its_log(self, name: str) -> None:
        assert SERVICES[name]["logging"] == {"driver": "local"}

    def test_mounts_what_there_is(self, name: str) -> None:
        mounts = dict(volume.split(":")[:2] for volume in SERVICES[name].get("volumes", []))
        inside = {place: files.ROOT / source for source, place in mounts.items() if source.startswith("./")}
        named = [*SERVICES[name].get("entrypoint", []), *SERVICES[name].get("environment", {}).values()]
        used = [text for text in named if text.startswith("/deploy/")]

        assert all(folder.is_dir() for folder in inside.values())
        assert all((inside["/deploy"] / text.removeprefix("/deploy/")).is_file() for text in used)
        assert {source for source in mounts if not source.startswith("./")} <= set(files.compose()["volumes"])

    def test_holds_no_secret_itself(self, name: str) -> None:
        secret = re.compile(r"PASSWORD|PWD|SECRET|TOKEN|_KEY$")
        values = {n: v for n, v in SERVICES[name].get("environment", {}).items() if secret.search(n)}

        assert all(re.fullmatch(r"\$\{\w+:\?is not set, .+\}", value) for value in values.values())
        assert not re.search(r"//\w+:[^@]*@", str(SERVICES[name]))


@pytest.mark.parametrize("name", sorted(waited_for("service_healthy") | {"web"}))
def test_what_others_wait_for_can_become_healthy(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ["postgres", "temporal-postgres"])
def test_postgres_keeps_its_data_where_its_release_puts_it(name: str) -> None:
    release = int(re.match(r"postgres:(\d+)\.", SERVICES[name]["image"])[1])  # type: ignore[index]

    places = [volume.split(":")[1] for volume in SERVICES[name]["volumes"]]

    assert places == ["/var/lib/postgresql" if release >= 18 else "/var/lib/postgresql/data"]


@pytest.mark.parametrize("name", APPLICATION)
class TestTheApplication:
    def found(self, name: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
        found = files.environment(SERVICES[name], {**files.example(), **files.FILLED_IN})
        for variable, value in found.items():
            monkeypatch.setenv(variable, value)
        return found

    def test_accepts_its_settings(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        config = settings.load(environment=self.found(name, monkeypatch))

        assert config.web_url == files.FILLED_IN["RUNBOOK_WEB_URL"]
        assert config.key == SecretStr(files.FILLED_IN["RUNBOOK_KEY"])

    def test_reaches_the_services_of_this_file(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        config = settings.load(environment=self.found(name, monkeypatch))

        target = temporal.target(config)

        assert (target.address, target.embedded) == ("temporal:7233", None)
        assert target.namespace == SERVICES["temporal-namespace"]["environment"]["TEMPORAL_NAMESPACE"]
        postgres = SERVICES["postgres"]["environment"]
        assert config.database_url.get_secret_value() == (
            f"postgresql://{postgres['POSTGRES_USER']}@postgres:5432/{postgres['POSTGRES_DB']}"
        )

    def test_is_out_of_reach_of_temporals_database(self, name: str) -> None:
        assert "networks" not in SERVICES[name]
        assert SERVICES["temporal-postgres"]["networks"] == ["temporal-database"]
        assert files.compose()["networks"]["temporal-database"] == {"internal": True}


def test_worker_has_longer_than_it_gives_its_calls() -> None:
    grace = timedelta(seconds=int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")))

    assert grace > _GRACE


def test_web_is_asked_where_it_listens() -> None:
    web = SERVICES["web"]
    port, private = (web["environment"][name] for name in ("RUNBOOK_WEB_PORT", "RUNBOOK_WEB_PRIVATE_PORT"))

    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", web["healthcheck"]["test"][-1])

    assert asked
    assert asked[1] == private
    assert [published.split(":")[2] for published in web["ports"]] == [port]
    assert asked[2] in {getattr(route, "path", None) for route in router.routes}
    assert web["environment"]["RUNBOOK_WEB_HOST"] == "0.0.0.0"  # noqa: S104 - inside its container


def test_server_and_ui_are_the_releases_that_the_embedded_ones_are() -> None:
    embedded = Path(sysconfig.get_path("scripts")) / "temporal"
    said = subprocess.run([embedded, "--version"], capture_output=True, text=True, check=True).stdout

    server, ui = re.search(r"Server ([\d.]+), UI ([\d.]+)", said).groups()  # type: ignore[union-attr]

    assert SERVICES["temporal"]["image"] == f"temporalio/server:{server}"
    assert SERVICES["temporal-ui"]["image"] == f"temporalio/ui:{ui}"
    assert SERVICES["temporal-schema"]["image"] == f"temporalio/admin-tools:{server}"
    assert SERVICES["temporal-namespace"]["image"] == f"temporalio/admin-tools:{server}"


def test_server_has_the_dynamic_config_of_the_embedded_one() -> None:
    document = safe_load((files.ROOT / "deploy/temporal/dynamicconfig.yaml").read_text())

    read = {key: constraints[0]["value"] for key, constraints in document.items() if len(constraints) == 1}

    assert read == dict(DYNAMIC_CONFIG)


def test_namespace_gets_what_a_worker_asks_for() -> None:
    script = (files.ROOT / "deploy/temporal/namespace.sh").read_text()

    made = re.findall(r"^(\w+) (\w+)$", script.split("<<'ATTRIBUTES'")[1], re.MULTILINE)

    assert made == [(key.name, temporal.attribute_type(key)) for key in temporal.SEARCH_ATTRIBUTES]
    assert re.findall(r"--retention (\w+)", script) == [f"{RETENTION.days}d"]


class TestTheSampleEnvFile:
    def test_names_what_has_to_be_filled_in(self) -> None:
        assert files.required() == set(files.FILLED_IN) <= set(files.example())

    def test_holds_no_value_of_a_secret(self) -> None:
        empty = {name for name, value in files.example().items() if not value}

        assert set(files.example()) - empty == {"RUNBOOK_KEY_ID", "RUNBOOK_PROVIDERS"}

    def test_is_ignored_by_git_once_filled_in(self) -> None:
        assert "/compose.env" in (files.ROOT / "deploy/.gitignore").read_text().splitlines()


def command() -> list[str]:
    """Compose, as docker's plugin or a program of its own; skips the test where there is neither."""
    docker, alone = shutil.which("docker"), shutil.which("docker-compose")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    if alone:
        return [alone]
    pytest.skip("neither `docker compose` nor `docker-compose` is installed")


def asked(folder: Path, given: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    program = command()
    shutil.copy(files.ROOT / files.COMPOSE_FILE, folder)
    (folder / "deploy").mkdir()
    (folder / files.ENV_FILE).write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    arguments = ["--env-file", files.ENV_FILE, "-f", files.COMPOSE_FILE, "config"]
    return subprocess.run([*program, *arguments], cwd=folder, capture_output=True, text=True, check=False)


class TestComposeItself:
    def test_accepts_the_file(self, tmp_path: Path) -> None:
        done = asked(tmp_path, files.FILLED_IN)

        assert done.returncode == 0, done.stderr
        assert all(name in done.stdout for name in SERVICES)

    @pytest.mark.parametrize("name", sorted(files.FILLED_IN))
    def test_refuses_to_start_without_a_value(self, name: str, tmp_path: Path) -> None:
        done = asked(tmp_path, files.FILLED_IN | {name: ""})

        assert done.returncode != 0
        assert name in done.stderr
        assert "is not set, " in done.stderr
