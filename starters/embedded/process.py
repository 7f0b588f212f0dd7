"""A server under a guard: it cannot outlive the process that started it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starters.embedded.errors import EmbeddedError
from starters.embedded.files import last_lines
from starters.embedded.lock import FolderLock

POLL = 0.05
"""Seconds between two looks at a process that comes up or goes down."""

GUARD_MARGIN = 5.0
"""Seconds that a guard may need beyond the child's grace before it counts as stuck."""

LOG_LIMIT = 10_000_000
"""Bytes after which a start moves the log to `.1`, so that a stack kept for months does not fill the disk."""


@dataclass(frozen=True)
class User:
    """The account that a child runs as, when it must not be ours."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Command:
    """What to run. `grace` is seconds between `stop_signal` and SIGKILL; `log` takes stdout and stderr."""

    name: str
    argv: Sequence[str | Path]
    log: Path
    env: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    user: User | None = None


class GuardedProcess:
    """One running child. Stop it, or wait for its end, before dropping the object."""

    def __init__(self, command: Command, guard: subprocess.Popen[bytes], pid: int) -> None:
        self.command = command
        self.pid = pid
        """The child's pid, not the guard's."""
        self._guard = guard

    @classmethod
    def start(cls, command: Command, lock: FolderLock | None = None) -> "GuardedProcess":
        """Start the child; `lock` then stays held until the child has ended, whatever happens to this process.

        Returns as soon as the child runs (some 30 ms). Raises EmbeddedError when it cannot be executed.
        """
        _rotate(command.log)
        guard = subprocess.Popen(  # noqa: S603 - our own interpreter and script
            _guard_argv(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(command.env),
            cwd="/",
            start_new_session=True,  # a Ctrl-C at the terminal is for us to handle, not for the servers
            pass_fds=() if lock is None else (lock.descriptor,),
        )
        assert guard.stdin is not None
        assert guard.stdout is not None
        with guard.stdout:
            word, _, rest = guard.stdout.readline().decode().strip().partition(" ")
        if word != "pid":
            guard.stdin.close()
            guard.wait()
            raise EmbeddedError(f"{command.name} cannot be started: {rest or 'its guard ended at once'}.")
        return cls(command, guard, int(rest))

    def alive(self) -> bool:
        return self._guard.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The child's exit code, 128+n after signal n, None while it runs."""
        code = self._guard.poll()
        return code if code is None or code >= 0 else 128 - code

    def kill(self) -> None:
        """SIGKILL the child itself, as a crash would; the guard then ends with code 137."""
        with contextlib.suppress(ProcessLookupError):
            if self.alive():
                os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until the child has ended, by itself or not; return its exit code."""
        while (code := self.exit_code) is None:  # noqa: ASYNC110 - there is no event: a process is only seen by looking
            await asyncio.sleep(POLL)
        self._close_pipe()
        return code

    async def stop(self) -> int:
        """Ask the child to stop and wait for it; return its exit code. A second call returns the same."""
        self._close_pipe()
        limit = self.command.grace + GUARD_MARGIN
        try:
            return await asyncio.wait_for(self.wait(), limit)
        except TimeoutError:
            raise EmbeddedError(
                f"{self.command.name} (pid {self.pid}) still runs {limit:.0f} s after it was asked to stop; "
                f"end it by `kill -9 {self.pid}`."
            ) from None

    async def wait_until_ready(self, probe: Callable[[], Awaitable[bool]], timeout: float) -> None:  # noqa: ASYNC109 - it ends in our sentence, not in a bare TimeoutError
        """Ask `probe` until it says yes.

        Raises EmbeddedError with the end of the log, at once when the child has ended, else after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not await probe():
            if not self.alive():
                raise EmbeddedError(
                    self._with_log(f"{self.command.name} stopped while starting (exit code {self.exit_code})")
                )
            if time.monotonic() > deadline:
                raise EmbeddedError(self._with_log(f"{self.command.name} is not ready after {timeout:.0f} s"))
            await asyncio.sleep(POLL)

    def _with_log(self, what: str) -> str:
        return f"{what}; the end of {self.command.log}:\n{last_lines(self.command.log) or '(empty)'}"

    def _close_pipe(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()


def _guard_argv(command: Command) -> list[str]:
    guard = Path(__file__).with_name("guard.py")
    argv = [sys.executable, "-I", "-S", str(guard), "--signal", str(int(command.stop_signal))]
    argv += ["--grace", str(command.grace), "--log", str(command.log)]
    if command.user is not None:
        argv += ["--uid", str(command.user.uid), "--gid", str(command.user.gid)]
    return [*argv, "--", *map(str, command.argv)]


def _rotate(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_name(log.name + ".1"))
