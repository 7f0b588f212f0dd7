import base64
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from integrations import settings
from integrations.domain.keyring import Ring, root_of
from integrations.domain.mail import MailServer, Security, Sender
from integrations.domain.quiet_hours import QuietHours
from integrations.domain.reauth import Reminding, Terms
from integrations.keyring import KeysFile
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

        assert (loaded.web_port, loaded.keys.ring()) == (7000, Ring.of_one("k1", raw_key))

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


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


class TestTheKeys:
    def test_of_a_file_are_followed_there(self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """And replace those of a running stack as a whole."""
        monkeypatch.setenv("RUNBOOK_KEYS_FILE", "/etc/runbook/keys.json")

        loaded = settings.load(live, os.environ)

        assert isinstance(loaded.keys, KeysFile)
        assert loaded.keys.where == "/etc/runbook/keys.json"

    def test_of_a_person_replace_the_file_of_a_running_stack(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = os.urandom(32)
        monkeypatch.setenv("RUNBOOK_KEY", encoded(key))
        del live["key"]

        loaded = settings.load(live | {"keys_file": "/var/tmp/keys.json", "key_id": "k7"}, os.environ)

        assert loaded.keys.ring() == Ring.of_one("k1", key)

    def test_of_two_places_are_refused_with_the_way_out(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RUNBOOK_KEYS_FILE", "/etc/runbook/keys.json")
        monkeypatch.setenv("RUNBOOK_KEY", live["key"])

        with pytest.raises(SettingsError, match="are both set: `runbook keys init`"):
            _ = settings.load(live, os.environ).keys

    def test_that_only_open_come_with_the_root_that_links_are_made_of(
        self, live: dict[str, Any], raw_key: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        new, older = os.urandom(32), os.urandom(32)
        monkeypatch.setenv("RUNBOOK_KEY", encoded(new))
        monkeypatch.setenv("RUNBOOK_KEY_ID", "k3")
        monkeypatch.setenv("RUNBOOK_OLD_KEYS", f"k1:{encoded(raw_key)} k2:{encoded(older)}")
        with pytest.raises(SettingsError, match="without RUNBOOK_ROOT_KEY, and every link"):
            _ = settings.load(live, os.environ).keys
        monkeypatch.setenv("RUNBOOK_ROOT_KEY", encoded(root_of(raw_key)))

        ring = settings.load(live, os.environ).keys.ring()

        assert (ring.current, ring.staged, ring.root) == ("k3", [], root_of(raw_key))
        assert ring.keys == {"k1": raw_key, "k2": older, "k3": new}

    @pytest.mark.parametrize("old", ["hunter2", "k1", "k2:hunter2", "k2:{key} k2:{key}", "a/b:{key}"])
    def test_that_are_malformed_are_named_and_not_shown(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch, old: str
    ) -> None:
        monkeypatch.setenv("RUNBOOK_KEY", live["key"])
        monkeypatch.setenv("RUNBOOK_OLD_KEYS", old.format(key=live["key"]))

        message = refusal(live)

        assert message.startswith("RUNBOOK_OLD_KEYS: ")
        assert "hunter2" not in message
        assert live["key"] not in message

    def test_cannot_have_one_id_twice(self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNBOOK_KEY", live["key"])
        monkeypatch.setenv("RUNBOOK_ROOT_KEY", live["key"])
        monkeypatch.setenv("RUNBOOK_OLD_KEYS", f"k1:{live['key']}")

        with pytest.raises(SettingsError, match="'k1' is the current key's id"):
            _ = settings.load(live, os.environ).keys


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


class TestTheTermsOfAReconsent:
    def test_are_the_usual_ones_unless_somebody_says_otherwise(self, live: dict[str, Any]) -> None:
        assert settings.load(live).terms == Terms()

    def test_are_read_as_people_write_them(self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {
            "REAUTH_PATIENCE": "7d",
            "REAUTH_REMIND_AFTER": "12h 2d",
            "REAUTH_ACKNOWLEDGE_WITHIN": "30m",
            "OWNER_ZONE": "Asia/Tokyo",
            "QUIET_HOURS": "21-9",
        }.items():
            monkeypatch.setenv(f"RUNBOOK_{name}", value)

        terms = settings.load(live).terms

        assert terms.patience == timedelta(days=7)
        assert terms.reminding == Reminding(
            after=(timedelta(hours=12), timedelta(days=2)),
            acknowledge_within=timedelta(minutes=30),
            quiet=QuietHours(zone="Asia/Tokyo", starts=21, ends=9),
        )

    def test_may_be_that_nobody_is_reminded(self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNBOOK_REAUTH_REMIND_AFTER", "")

        assert settings.load(live).terms.reminding.after == ()

    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("REAUTH_PATIENCE", "two weeks", "'two weeks' is not written like 14d"),
            ("REAUTH_PATIENCE", "0d", "must be longer than nothing"),
            ("REAUTH_REMIND_AFTER", "1d, 3d", "'1d,' is not written like 14d"),
            ("QUIET_HOURS", "20-25", "'20-25' are no hours"),
            ("OWNER_ZONE", "Europe/Atlantis", "'Europe/Atlantis' is no time zone"),
        ],
    )
    def test_that_are_wrong_are_named(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
    ) -> None:
        monkeypatch.setenv(f"RUNBOOK_{name}", value)

        message = refusal(live)

        assert message.startswith(f"RUNBOOK_{name}: ")
        assert told in message


class TestMail:
    def test_goes_by_the_server_that_its_address_names(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RUNBOOK_SMTP_URL", "smtp://runbook:hunter2@mail.acme.example")
        monkeypatch.setenv("RUNBOOK_MAIL_FROM", "Runbook <runbook@acme.example>")

        loaded = settings.load(live, os.environ)

        assert loaded.mail_server == MailServer("mail.acme.example", 587, Security.STARTTLS, "runbook", "hunter2")
        assert loaded.sender == Sender("Runbook", "runbook@acme.example")
        assert "hunter2" not in repr(loaded)

    def test_goes_nowhere_by_itself(self, live: dict[str, Any]) -> None:
        loaded = settings.load(live, {})

        assert (loaded.mail_server, loaded.sender) == (None, None)

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            (
                "SMTP_URL",
                "smtp://runbook:hunter2/x@mail.acme.example",
                "RUNBOOK_SMTP_URL: must be smtp://user:password",
            ),
            ("SMTP_URL", "smtp://r:hunter2@mail.acme.example?tls=none", "RUNBOOK_SMTP_URL: would send the password"),
            ("MAIL_FROM", "Runbook", "RUNBOOK_MAIL_FROM: must be a mailbox in ASCII"),
        ],
    )
    def test_that_cannot_go_is_refused_by_name_and_without_the_password(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
    ) -> None:
        monkeypatch.setenv(f"RUNBOOK_{name}", value)

        refused = refusal(live)

        assert refused.startswith(said)
        assert "hunter2" not in refused


def test_hosts_inside_our_network_are_named_in_one_line(live: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_WEBHOOK_INTERNAL", "alerts.acme.example 10.0.0.1")

    assert settings.load(live, os.environ).webhook_internal == ("alerts.acme.example", "10.0.0.1")


class TestAJob:
    def test_has_an_hour_of_patience_unless_somebody_says_otherwise(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = settings.load(live).job_patience
        monkeypatch.setenv("RUNBOOK_JOB_PATIENCE", "2d")

        assert (usual, settings.load(live).job_patience) == (timedelta(hours=1), timedelta(days=2))

    def test_without_any_is_named(self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNBOOK_JOB_PATIENCE", "0s")

        with pytest.raises(SettingsError, match="RUNBOOK_JOB_PATIENCE"):
            settings.load(live)


class TestASurge:
    def test_is_what_the_issue_says_unless_somebody_says_otherwise(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = settings.load(live).surge_limits
        for name, value in {"WINDOW": "1m", "CONNECTIONS": "2", "SHARE": "50"}.items():
            monkeypatch.setenv(f"RUNBOOK_SURGE_{name}", value)

        other = settings.load(live).surge_limits

        assert (usual.window, usual.connections, usual.share) == (timedelta(minutes=10), 5, 20)
        assert (other.window, other.connections, other.share) == (timedelta(minutes=1), 2, 50)

    @pytest.mark.parametrize(("name", "value"), [("WINDOW", "0s"), ("CONNECTIONS", "0"), ("SHARE", "101")])
    def test_that_makes_no_sense_is_named(
        self, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(f"RUNBOOK_SURGE_{name}", value)

        with pytest.raises(SettingsError, match=f"RUNBOOK_SURGE_{name}"):
            settings.load(live)
