"""Where a command looks, what it refuses, and what it says when nobody answers."""

from pathlib import Path

import pytest

from starters.embedded.ports import free_port
from tests.starters.conftest import Runbook, run
from tests.starters.running import Running

CHANGING = ("connections", "add", "simulator", "--owner", "org:acme")


class TestWithoutAStack:
    def test_every_kind_of_command_ends_with_3_the_folder_and_what_to_do(self, tmp_path: Path) -> None:
        for words in (("status",), ("doctor",), ("connections", "list", "--json"), CHANGING, ("db", "check")):
            ran = run(*words, RUNBOOK_DATA=str(tmp_path / "none"))

            assert (ran.code, ran.out) == (3, ""), words
            assert f"no stack is running in {tmp_path / 'none'}" in ran.err
            assert "make up" in ran.err

    def test_down_and_reset_say_that_there_is_nothing(self, tmp_path: Path) -> None:
        down, reset = (run(word, RUNBOOK_DATA=str(tmp_path / "none")) for word in ("down", "reset"))

        assert (down.code, reset.code) == (0, 0)
        assert "No stack was running" in down.out
        assert "no data" in reset.out


class TestADatabase:
    def test_that_does_not_answer_ends_with_3_and_the_address_without_its_password(self, runbook: Runbook) -> None:
        port = free_port()
        for address in (f"127.0.0.1:{port}", "database.invalid"):
            ran = runbook("connections", "list", RUNBOOK_DATABASE_URL=f"postgresql://u:hunter2@{address}/runbook")

            assert (ran.code, ran.out) == (3, "")
            assert address.split(":")[0] in ran.err
            assert "RUNBOOK_DATABASE_URL" in ran.err or "make up" in ran.err
            assert "hunter2" not in ran.err

    def test_without_the_schema_leads_to_db_upgrade(self, runbook: Runbook, running: Running) -> None:
        empty = running.stack.settings.sqlalchemy_url.replace("/runbook?", "/postgres?").replace("+asyncpg", "")

        checked = runbook("db", "check", "--json", RUNBOOK_DATABASE_URL=empty)
        listed = runbook("connections", "list", RUNBOOK_DATABASE_URL=empty)

        assert checked.code == 1
        assert checked.json["revision"] is None
        assert ["db", "upgrade"] in [words[:2] for words in checked.printed_commands]
        assert listed.code in {1, 3}
        assert ["db", "upgrade"] in [words[:2] for words in listed.printed_commands]

    def test_that_is_up_to_date_is_checked_and_upgraded_without_a_change(self, runbook: Runbook) -> None:
        checked, upgraded = runbook("db", "check", "--json"), runbook("db", "upgrade")

        assert (checked.code, checked.json["differences"]) == (0, [])
        assert checked.json["revision"] == checked.json["newest"]
        assert upgraded.code == 0
        assert upgraded.err.startswith("Target: ")
        assert f"at revision {checked.json['newest']}." in upgraded.out


class TestAPairThatDoesNotBelongTogether:
    def test_is_refused_naming_both(self, runbook: Runbook, running: Running) -> None:
        own, stranger = running.stack.settings.temporal_address, f"127.0.0.1:{free_port()}"
        for words in (CHANGING, ("tasks", "close", "3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11"), ("db", "upgrade")):
            ran = runbook(*words, TEMPORAL_ADDRESS=stranger)

            assert (ran.code, ran.out) == (1, ""), words
            assert f"belongs to the Temporal at {own}" in ran.err
            assert f"talks to {stranger}" in ran.err

    def test_is_refused_for_another_namespace_too(self, runbook: Runbook, running: Running) -> None:
        own = running.stack.settings.temporal_address or ""
        ran = runbook(*CHANGING, TEMPORAL_ADDRESS=own, TEMPORAL_NAMESPACE="production")

        assert ran.code == 1
        assert "'default'" in ran.err
        assert "'production'" in ran.err

    def test_of_a_remote_database_and_the_embedded_temporal_is_refused(self, runbook: Runbook) -> None:
        """Before it is asked anything: there is no such host."""
        for words in (CHANGING, ("db", "upgrade")):
            ran = runbook(*words, RUNBOOK_DATABASE_URL="postgresql://u:hunter2@database.invalid/runbook")

            assert ran.code == 1
            assert "postgresql://u:***@database.invalid/runbook is remote" in ran.err
            assert "(embedded)" in ran.err
            assert "hunter2" not in ran.err


class TestTheDoctor:
    def test_finds_nothing_wrong_on_a_running_stack(self, runbook: Runbook) -> None:
        ran = runbook("doctor", "--json")

        assert [finding for finding in ran.json if not finding["fine"]] == []
        assert ran.code == 0
        assert {finding["what"] for finding in ran.json} >= {
            "database",
            "schema",
            "clock",
            "binding",
            "key",
            "operators",
            "temporal",
            "search attributes",
            "worker",
        }

    @pytest.mark.parametrize("namespace", ["default", "nowhere"])
    def test_says_what_is_wrong_with_temporal_and_its_fix(
        self, runbook: Runbook, running: Running, namespace: str
    ) -> None:
        """Nobody listens at the address; or somebody does, and has no such namespace."""
        own = running.stack.settings.temporal_address or ""
        address = "127.0.0.1:9" if namespace == "default" else own
        ran = runbook("doctor", "--json", TEMPORAL_ADDRESS=address, TEMPORAL_NAMESPACE=namespace)

        assert ran.code == 1
        findings = {finding["what"]: finding for finding in ran.json}
        assert findings["database"]["fine"]
        assert not findings["temporal"]["fine"]
        assert findings["temporal"]["fix"]


class TestTheStatus:
    def test_tells_that_temporal_is_down_and_what_to_do(self, runbook: Runbook) -> None:
        ran = runbook("status", "--json", TEMPORAL_ADDRESS="127.0.0.1:9")

        assert ran.code in {1, 3}
        assert "127.0.0.1:9" in ran.json["platform"]
        assert "make up" in ran.json["platform"]


class TestASetting:
    def test_that_is_wrong_or_unknown_ends_with_2_and_its_name(self, runbook: Runbook) -> None:
        for environment, words in (
            ({"RUNBOOK_KEY": "short"}, "RUNBOOK_KEY: must be 32 bytes in base64"),
            ({"RUNBOOK_DATABASE_URL": "sqlite:///x"}, "RUNBOOK_DATABASE_URL: must be an address like postgresql://"),
            ({"RUNBOOK_KYE": "x"}, "RUNBOOK_KYE is not a setting; did you mean RUNBOOK_KEY?"),
        ):
            ran = runbook("connections", "list", **environment)

            assert (ran.code, ran.out) == (2, "")
            assert words in ran.err
