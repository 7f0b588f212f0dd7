"""`runbook providers`, as a person runs it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.starters.acme import ENTRY
from tests.starters.conftest import run

SECRET = "hush-hush-client-secret"


def write(folder: Path, old: str = "", new: str = "") -> str:
    """Acme's entry as a file of a person's own, with one thing said otherwise."""
    assert old in ENTRY
    top, _, tables = ENTRY.partition("\n[")
    text = "[providers.acme]" + f"{top}\n[{tables}".replace("\n[", "\n[providers.acme.")
    file = folder / "providers.toml"
    file.write_text(text.replace(old, new, 1) if old else text)
    return str(file)


class TestList:
    def test_needs_neither_a_stack_nor_a_key_and_tells_no_secret(self, tmp_path: Path) -> None:
        given = {
            "RUNBOOK_DATA": str(tmp_path),
            "RUNBOOK_PROVIDERS": write(tmp_path),
            "RUNBOOK_PROVIDER_ACME_CLIENT_ID": "us",
            "RUNBOOK_PROVIDER_ACME_CLIENT_SECRET": SECRET,
        }

        shown, document = run("providers", "list", **given), run("providers", "list", "--json", **given)

        assert (shown.code, document.code) == (0, 0)
        assert SECRET not in shown.out + document.out
        by_id = {entry["id"]: entry for entry in document.json}
        assert by_id["acme"] == {
            "id": "acme",
            "name": "Acme",
            "configured": True,
            "credentials": ["RUNBOOK_PROVIDER_ACME_CLIENT_ID", "RUNBOOK_PROVIDER_ACME_CLIENT_SECRET"],
            "flow": "authorization_code",
            "capabilities": ["files.read", "things.read", "things.write"],
            "rotates": "yes, grace 1m",
            "webhook": "hmac-sha256",
            "asked_for": ["region"],
            "docs": ["https://acme.example/docs"],
        }
        assert by_id["github"]["configured"] is False
        [line] = [line for line in shown.out.splitlines() if line.startswith("acme ")]
        assert line.split()[:5] == ["acme", "Acme", "yes", "files.read,", "things.read,"]

    def test_shows_one_with_its_pages(self, tmp_path: Path) -> None:
        shown = run("providers", "list", "github", RUNBOOK_DATA=str(tmp_path))

        assert "https://docs.github.com/" in shown.out
        assert "RUNBOOK_PROVIDER_GITHUB_CLIENT_SECRET" in shown.out

    def test_names_the_nearest_to_one_that_is_not_there(self, tmp_path: Path) -> None:
        done = run("providers", "list", "githup", RUNBOOK_DATA=str(tmp_path))

        assert done.code == 1
        assert "did you mean 'github'?" in done.err


class TestCheck:
    def test_of_an_entry_that_holds_what_it_says_ends_with_0(self, tmp_path: Path) -> None:
        done = run("providers", "check", write(tmp_path), "--provider", "acme")

        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("Acme (acme)\n")
        assert "✘" not in done.out
        assert re.search(r"\n1 provider: \d+ checks passed, 0 failed\n$", done.out)

    def test_of_one_that_contradicts_itself_names_the_key_and_ends_with_1(self, tmp_path: Path) -> None:
        done = run("providers", "check", write(tmp_path, 'refresh_lead = "15m"', 'refresh_lead = "3h"'))

        assert done.code == 1
        [line] = [number for number, line in enumerate(done.out.splitlines()) if "✘" in line]
        told = done.out.splitlines()[line : line + 3]
        assert told[1].strip() == "heard: refresh_lead is 3h, and a token lives for 2h: it is never fresh"
        assert told[2].strip() == "correct: refresh_lead"
        assert "not as they say: acme" in done.err

    def test_answers_with_one_document(self, tmp_path: Path) -> None:
        done = run("providers", "check", write(tmp_path, 'none = ["ok"]', 'none = ["ok"]\nbusi = []'), "--json")
        good = run("providers", "check", write(tmp_path), "--json")

        assert done.code == 1
        assert done.json["mistakes"][0].endswith("acme.errors.busi: unknown key; did you mean 'busy'?")
        assert (good.code, good.json["failed"]) == (0, 0)
        [provider] = good.json["providers"]
        assert provider["id"] == "acme"
        assert {check["state"] for check in provider["checks"]} == {"passed"}

    def test_lists_every_mistake_of_a_file(self, tmp_path: Path) -> None:
        file = write(tmp_path, 'token_auth = "basic"', 'token_auth = "basik"\ncolour = "red"')

        done = run("providers", "check", file)

        assert (done.code, done.out) == (1, "")
        assert "providers.acme.token_auth: 'basik' is not known; did you mean 'basic'?" in done.err
        assert "providers.acme.colour: unknown key" in done.err

    def test_of_nothing_is_wrong_usage(self, tmp_path: Path) -> None:
        absent = run("providers", "check", str(tmp_path / "absent.toml"))
        unknown = run("providers", "check", "--provider", "githup")

        assert (absent.code, unknown.code) == (2, 2)
        assert "there is no file" in absent.err
        assert "did you mean 'github'?" in unknown.err


class TestItsSimulator:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_ends_with_the_command_however_that_ends(self, tmp_path: Path, how: signal.Signals) -> None:
        # Slow enough to be interrupted: the built-in catalog, time and again.
        script = (
            "import sys; from starters.app import command_line\n"
            "sys.argv = ['runbook', 'providers', 'check', '--json']\n"
            "from starters import providers; chosen = providers._chosen\n"
            "providers._chosen = lambda *a, **k: chosen(*a, **k) * 50\n"
            "command_line()()"
        )
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
        parent = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL)
        simulators = _simulators(parent.pid)

        parent.send_signal(how)

        parent.wait(20)
        gone, alive = psutil.wait_procs(simulators, timeout=20)
        assert (len(gone), alive) == (len(simulators), [])
        assert list(tmp_path.iterdir()) == []


def _simulators(pid: int) -> list[psutil.Process]:
    """The guard and the simulator under it, once it answers."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children(recursive=True)
        if any("simulator" in child.cmdline() and child.net_connections() for child in children if child.is_running()):
            time.sleep(0.2)
            return children
        time.sleep(0.05)
    raise AssertionError("the simulator did not come up")
