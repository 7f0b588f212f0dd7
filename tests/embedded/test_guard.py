# ruff: noqa: ASYNC240 - a look at a file does not hold up a test
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from starters.embedded.errors import EmbeddedError
from starters.embedded.process import Command, GuardedProcess

DEAF = "trap '' TERM; echo up; while :; do sleep 0.05; done"


def shell(script: str, log: Path, grace: float = 5.0) -> Command:
    return Command("the shell", ["/bin/sh", "-c", script], log, {"PATH": "/usr/bin:/bin"}, grace=grace)


async def says_up(log: Path) -> bool:
    return log.exists() and b"up" in log.read_bytes()


class TestExitCode:
    async def test_is_the_childs(self, tmp_path: Path) -> None:
        process = GuardedProcess.start(shell("exit 7", tmp_path / "log"))

        assert await process.wait() == 7

    async def test_is_128_and_the_signal_that_ended_it(self, tmp_path: Path) -> None:
        process = GuardedProcess.start(shell("sleep 30", tmp_path / "log"))
        process.kill()

        assert await process.wait() == 128 + signal.SIGKILL
        assert not process.alive()

    async def test_a_missing_program_is_named(self, tmp_path: Path) -> None:
        command = Command("the shell", ["/no/such/program"], tmp_path / "log", {})

        with pytest.raises(EmbeddedError, match=r"the shell cannot be started.*/no/such/program"):
            GuardedProcess.start(command)


class TestStop:
    async def test_asks_before_it_kills(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        process = GuardedProcess.start(
            shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done", log)
        )
        await process.wait_until_ready(lambda: says_up(log), 5)

        assert await process.stop() == 3
        assert log.read_text() == "up\nbye\n"

    async def test_kills_a_child_that_does_not_listen(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        process = GuardedProcess.start(shell(DEAF, log, grace=0.3))
        await process.wait_until_ready(lambda: says_up(log), 5)

        assert await process.stop() == 128 + signal.SIGKILL

    async def test_a_terminated_guard_takes_the_child_along(self, tmp_path: Path) -> None:
        process = GuardedProcess.start(shell("exec sleep 30", tmp_path / "log"))
        psutil.Process(process.pid).parent().terminate()

        assert await process.wait() == 128 + signal.SIGTERM
        assert not psutil.pid_exists(process.pid)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent's death")
    async def test_a_killed_guard_takes_the_child_along(self, tmp_path: Path) -> None:
        process = GuardedProcess.start(shell("exec sleep 30", tmp_path / "log"))
        psutil.Process(process.pid).parent().kill()
        await process.wait()

        deadline = time.monotonic() + 3
        while psutil.pid_exists(process.pid) and psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline

    async def test_an_interrupt_of_our_group_does_not_reach_the_child(self, tmp_path: Path) -> None:
        process = GuardedProcess.start(shell("exec sleep 30", tmp_path / "log"))
        try:
            assert os.getpgid(process.pid) != os.getpgid(0)
            assert os.getsid(process.pid) != os.getsid(0)
        finally:
            await process.stop()


class TestReadiness:
    async def test_a_child_that_dies_is_reported_at_once_with_its_log(self, tmp_path: Path) -> None:
        log = tmp_path / "the.log"
        process = GuardedProcess.start(shell("echo the reason; exit 4", log))

        async def never() -> bool:
            return False

        began = time.monotonic()
        with pytest.raises(EmbeddedError, match=r"exit code 4.*the\.log(?s:.*)the reason"):
            await process.wait_until_ready(never, 30)
        assert time.monotonic() - began < 15
        await process.stop()


class TestInheritance:
    async def test_the_child_has_no_descriptor_of_ours(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        program = "import os; print([fd for fd in range(100) if os.path.exists(f'/dev/fd/{fd}')])"
        process = GuardedProcess.start(Command("python", [sys.executable, "-c", program], log, {}))

        assert await process.wait() == 0
        assert log.read_text() == "[0, 1, 2]\n"

    async def test_what_the_child_writes_is_ours_alone(self, tmp_path: Path) -> None:
        made = tmp_path / "made"
        process = GuardedProcess.start(shell(f"echo secret > {made}", tmp_path / "log"))
        await process.wait()

        assert made.stat().st_mode & 0o777 == 0o600


def test_the_guard_uses_the_standard_library_alone() -> None:
    guard = Path(__file__).parents[2] / "starters" / "embedded" / "guard.py"

    done = subprocess.run([sys.executable, "-I", "-S", guard, "--help"], capture_output=True, check=False)

    assert done.returncode == 0
