"""Starts one child and takes it along when the parent goes, however the parent goes.

Run as `python -I -S guard.py ...` with a pipe from the parent as stdin. The kernel closes that pipe when the parent
ends, by SIGKILL too, and the end of the file is the order to stop the child. Works alike on Linux and macOS.

Writes one line on stdout: `pid N`, or `error TEXT` when the child cannot be started (exit 127). Ends with the child's
exit code, 128+n for signal n. Any descriptor passed to it stays open until then and is not passed on: that is how the
folder lock outlives a killed parent for exactly as long as its servers do. Standard library only.
"""

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

CANNOT_START = 127


def main() -> int:
    """Run the child named on the command line; return the exit code for the guard itself."""
    options = _options()
    wake = _wake_on_signals()
    try:
        child = _start(options)
    except (OSError, subprocess.SubprocessError) as error:
        _tell(f"error {error}")
        return CANNOT_START
    _tell(f"pid {child.pid}")
    code = _watch(child, wake, options.signal, options.grace)
    return code if code >= 0 else 128 - code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--signal", type=int, default=signal.SIGTERM, help="asks the child to stop")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds between that and SIGKILL")
    parser.add_argument("--log", required=True, help="takes the child's stdout and stderr")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("argv", nargs="+")
    return parser.parse_args()


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable on SIGTERM and SIGCHLD; set before the child, so that none is lost."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return reader


def _start(options: argparse.Namespace) -> subprocess.Popen[bytes]:
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603 - the parent chose the command
            options.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            umask=0o077,
            user=options.uid,
            group=options.gid,
            extra_groups=None if options.uid is None else [],
            preexec_fn=_before_exec(),  # noqa: PLW1509 - the guard has one thread
        )
    finally:
        os.close(log)


def _before_exec() -> Callable[[], None]:
    """Return what the child does first: normal signals again, and on Linux death together with a killed guard."""
    prctl = _prctl()

    def before_exec() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if prctl is not None:
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; set after the change of user, which would clear it

    return before_exec


def _prctl() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        found: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None  # one belt less; the pipe holds
    return found


def _watch(child: subprocess.Popen[bytes], wake: int, stop_signal: int, grace: float) -> int:
    """Wait for the child; at the parent's end or on SIGTERM stop it. Return its code, -n for signal n."""
    watched, deadline, asked = [0, wake], None, None
    while (code := child.poll()) is None:
        ready, _, _ = select.select(
            watched, [], [], None if deadline is None else max(0.0, deadline - time.monotonic())
        )
        if 0 in ready and not os.read(0, 4096):
            watched, asked = [wake], True
        if wake in ready and signal.SIGTERM in os.read(wake, 4096):
            asked = True
        if asked and deadline is None:
            child.send_signal(stop_signal)
            deadline = time.monotonic() + grace
        if deadline is not None and time.monotonic() >= deadline:
            child.kill()
            return child.wait()
    return code


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # the parent may be gone already
        os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
