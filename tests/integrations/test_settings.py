import base64
import os
from pathlib import Path
from typing import Any

import pytest

from integrations import settings
from integrations.settings import Settings, SettingsError

URL = "postgresql://runbook:hunter2@127.0.0.1/runbook"


@pytest.fixture
def live(base64_key: str) -> dict[str, Any]:
    """What a running stack leaves for commands."""
    return {"database_url": URL, "key": base64_key, "web_port": 7000, "pid": 17}


def refusal(live: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as refused:
        settings.load(live, os.environ)
    return str(refused.value)


class TestTheSettings:
    def test_come_from_a_running_stack(self, live: dict[str, Any], raw_key: bytes) -> None:
        loaded = settings.load(live, {})

        assert (loaded.web_port, loaded.key_id, loaded.raw_key) == (7000, "k1", raw_key)

    def test_of_the_environment_win_over_a_running_stack(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RUNBOOK_WEB_PORT", "9000")
        monkeypatch.setenv("RUNBOOK_PROVIDERS", "/etc/providers.toml")

        loaded = settings.load(live, os.environ)

        assert (loaded.web_port, loaded.providers) == (9000, Path("/etc/providers.toml"))

    def test_show_no_secret_when_they_are_printed(self, live: dict[str, Any]) -> None:
        shown = repr(settings.load(live, {}))

        assert "hunter2" not in shown
        assert live["key"] not in shown

    @pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
    def test_speak_to_the_database_in_one_way(self, live: dict[str, Any], scheme: str) -> None:
        live["database_url"] = URL.replace("postgresql", scheme)

        assert settings.load(live, {}).sqlalchemy_url == URL.replace("postgresql", "postgresql+asyncpg")


class TestAnUnknownVariable:
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("RUNBOOK_DATABSE_URL", "RUNBOOK_DATABSE_URL is not a setting; did you mean RUNBOOK_DATABASE_URL?"),
            ("RUNBOOK_WEBURL", "RUNBOOK_WEBURL is not a setting; did you mean RUNBOOK_WEB_URL?"),
            ("RUNBOOK_QQQQQQQQ", "RUNBOOK_QQQQQQQQ is not a setting"),
        ],
    )
    def test_is_named_with_the_nearest_one(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, said: str
    ) -> None:
        monkeypatch.setenv(name, "hunter2")

        assert refusal(live) == said

    @pytest.mark.parametrize(
        "name", ["RUNBOOK_PROVIDER_GITHUB_CLIENT_SECRET", "RUNBOOK_TEST_POSTGRES", "DATABASE_URL", "RUNBOOKS"]
    )
    def test_of_somebody_else_is_left_alone(self, live: dict[str, Any], name: str) -> None:
        assert isinstance(settings.load(live, {name: "x"}), Settings)


class TestAWrongValue:
    @pytest.mark.parametrize(
        "key",
        [
            "",
            "not base64 at all!",
            base64.b64encode(b"s" * 32).decode() + "!!!!",
            base64.b64encode(b"s" * 31).decode(),
            base64.b64encode(b"s" * 33).decode(),
        ],
    )
    def test_of_the_key_is_explained_and_not_shown(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch, key: str
    ) -> None:
        monkeypatch.setenv("RUNBOOK_KEY", key)

        message = refusal(live)

        assert message == "RUNBOOK_KEY: must be 32 bytes in base64: make one with `openssl rand -base64 32`"

    def test_of_the_database_is_explained_and_not_shown(self, live: dict[str, Any]) -> None:
        message = refusal(live | {"database_url": "mysql://runbook:hunter2@host/db"})

        assert message == "RUNBOOK_DATABASE_URL: must be an address like postgresql://user@host/database"

    def test_that_is_missing_says_where_it_would_come_from(self) -> None:
        lines = refusal({}).splitlines()

        assert len(lines) == 2
        assert lines[0] == (
            "RUNBOOK_DATABASE_URL: is not set, and no `make up` is running in this checkout to take it from"
        )
        assert lines[1].startswith("RUNBOOK_KEY: is not set")

    def test_of_a_number_is_named(self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNBOOK_WEB_PORT", "many")

        assert refusal(live).startswith("RUNBOOK_WEB_PORT: Input should be a valid integer")
