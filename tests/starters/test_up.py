"""The stack as `runbook up` keeps it: what it takes, what it leaves alone, and that it goes without a trace."""

import os
import re
import select
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from starters.embedded.live import read_live
from starters.up import taken_over
from tests.starters.conftest import RUNBOOK, Runbook, run
from tests.starters.running import Running, modes


@pytest.fixture
def folder() -> Iterator[Path]:
    above = Path(tempfile.mkdtemp(prefix="rb-stack-", dir="/var/tmp" if os.geteuid() == 0 else None))
    above.chmod(0o711)
    yield above / "data"
    shutil.rmtree(above)


def environment(folder: Path) -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"RUNBOOK_DATA": str(folder)}


def said_until(process: "subprocess.Popen[bytes]", last: str) -> str:
    """What it says on stdout, up to some words."""
    assert process.stdout is not None
    said, deadline = "", time.monotonic() + 60
    while last not in said:
        assert time.monotonic() < deadline, said
        if select.select([process.stdout], [], [], 1)[0]:
            read = os.read(process.stdout.fileno(), 4096)
            assert read, f"it ended: {said}"
            said += read.decode()
    return said


def test_takes_over_what_is_meant_for_it_and_no_more() -> None:
    meant = {
        "RUNBOOK_MODE": "observe",
        "RUNBOOK_OUTAGE_EVERY": "5s",
        "RUNBOOK_OUTBOX_BATCH": "20",
        "RUNBOOK_NOTIFY_ATTEMPTS": "3",
        "RUNBOOK_PROVIDERS": "mine.toml",
        "RUNBOOK_PROVIDER_ACME_CLIENT_ID": "me",
        "RUNBOOK_SURGE_WINDOW": "5m",
        "RUNBOOK_OWNER_ZONE": "Europe/Berlin",
        "TEMPORAL_ADDRESS": "127.0.0.1:7233",
    }
    others = {"RUNBOOK_SMTP_URL": "smtp://mail", "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID": "x", "RUNBOOK_DATA": "/x"}

    assert taken_over(meant | others | {"PATH": "/bin"}) == meant


class TestAFolder:
    def test_that_is_in_use_is_refused_naming_the_process(self, running: Running, folder: Path) -> None:
        """Ctrl-C ends the waiting for it, too, at once."""
        command = [RUNBOOK, "up", "--data", running.stack.folder]
        with subprocess.Popen(
            command, env=environment(folder), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as second:
            assert second.stderr is not None
            said = second.stderr.readline()
            second.send_signal(signal.SIGINT)
            began = time.monotonic()
            said += second.communicate(timeout=40)[1]
            took = time.monotonic() - began

        assert f"pid {os.getpid()}" in said
        assert str(running.stack.folder) in said
        assert running.stack.processes["worker"].alive()
        assert took < 15

    def test_of_somebody_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("not yours")

        up, reset = run("up", "--data", str(tmp_path)), run("reset", "--yes", "--data", str(tmp_path))

        assert (up.code, reset.code) == (1, 1)
        assert str(tmp_path) in up.err
        assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]

    def test_is_not_deleted_without_a_yes(self, runbook: Runbook, running: Running) -> None:
        ran = runbook("reset")

        assert ran.code == 2
        assert "--yes" in ran.err
        assert running.stack.processes["web"].alive()


class TestAPort:
    def test_that_is_taken_is_refused_naming_it_and_by_whom(self, folder: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            ran = run("up", "--web-port", str(port), "--data", str(folder))

        assert ran.code == 1
        assert f"Port {port} for web is taken" in ran.err
        assert f"pid {os.getpid()}" in ran.err


class TestUp:
    def test_starts_everything_prints_what_can_be_pasted_and_stops_on_ctrl_c_without_a_trace(
        self, folder: Path, tmp_path: Path
    ) -> None:
        command = [RUNBOOK, "up", "--data", folder]
        with subprocess.Popen(
            command,
            env=environment(tmp_path / "elsewhere"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as up:
            try:
                said = said_until(up, "runbook status\n")
                family = psutil.Process(up.pid).children(recursive=True)
                pasted = subprocess.run(  # noqa: S602 - as a person pastes it into another terminal
                    re.findall(r"^  (\S.*runbook status)$", said, re.MULTILINE)[0],
                    shell=True,
                    cwd=tmp_path,
                    env={name: os.environ[name] for name in ("PATH", "HOME")},
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=False,
                )
                up.send_signal(signal.SIGINT)
                _, last = up.communicate(timeout=60)
            finally:
                if up.poll() is None:
                    run("down", "--data", str(folder))

        assert up.returncode == 0
        assert b"the data stays in" in last
        gone, alive = psutil.wait_procs(family, timeout=5)
        assert not alive
        assert len(gone) >= 10  # five servers and their guards
        assert not (folder / "live.json").exists()
        assert (pasted.returncode, pasted.stderr) == (0, "")
        assert re.search(r"^  Mail +http://127\.0\.0\.1:\d+/admin/mail ", said, re.MULTILINE)

    def test_refuses_a_remote_database_beside_its_own_temporal(self, folder: Path) -> None:
        ran = run(
            "up", RUNBOOK_DATA=str(folder), RUNBOOK_DATABASE_URL="postgresql://u:hunter2@database.invalid/runbook"
        )

        assert ran.code == 1
        assert "is remote" in ran.err
        assert "hunter2" not in ran.err


class TestTheRunningStack:
    def test_catches_the_mail_that_its_processes_are_told_to_send(self, running: Running) -> None:
        server = urlsplit((read_live(running.stack.folder) or {})["smtp_url"])
        with smtplib.SMTP(server.hostname or "", server.port or 0) as client:
            client.sendmail("a@acme.example", ["somebody@acme.example"], b"Subject: hello\r\n\r\n")

        caught = httpx.get(f"{running.stack.simulator_url}/admin/mail", params={"to": "somebody@acme.example"}).json()

        assert [mail["subject"] for mail in caught["mails"]] == ["hello"]

    def test_changes_no_mode_of_home_checkout_or_what_is_above_them(self, running: Running) -> None:
        assert modes() == running.modes_before

    def test_keeps_its_secrets_from_other_users(self, running: Running) -> None:
        folder = running.stack.folder
        for name in ("live.json", "ports.json", "VERSION", "logs"):
            found = (folder / name).stat().st_mode & 0o077
            assert found == 0, f"{name} is open to others: {found:o}"
