"""One stack per data folder, and none before the last server of the one before has stopped. Standard library only.

The lock belongs to an open file, which guards inherit: after a SIGKILL of the stack it is free only when every guard
has stopped its child and gone.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from starters.embedded import folder as data_folder
from starters.embedded.errors import EmbeddedError
from starters.embedded.files import read_object
from starters.embedded.identity import is_alive, process_identity

WAIT = 20.0
"""Seconds that the servers of a killed stack get to stop: PostgreSQL's grace and a margin."""

POLL = 0.1


@dataclass(frozen=True)
class FolderLock:
    """The right to run servers in `folder`, held while `descriptor` is open here or in a guard."""

    folder: Path
    descriptor: int

    def release(self) -> None:
        """Let go here. Never LOCK_UN: that would take it from the guards too."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def acquire(folder: Path, *, wait: float = WAIT, say: Callable[[str], None] = lambda _: None) -> FolderLock:
    """Make the folder when it is missing, check it, and lock it.

    Blocks up to `wait` seconds while the servers of a killed stack stop, telling `say` once.
    Raises EmbeddedError when the folder is not usable (`folder.check`) or another stack keeps it.
    """
    deadline = time.monotonic() + wait
    said = False
    while True:
        data_folder.make(folder)
        if (lock := try_lock(folder)) is not None:
            data_folder.stamp(folder)
            _sign(lock)
            return lock
        # A stack that runs will not leave by itself; only one that was killed is on its way out.
        if holder_pid(folder) is not None or time.monotonic() >= deadline:
            raise EmbeddedError(
                f"The data folder {folder} is in use by {_holder(folder)}; `runbook down --data {folder}` stops it, "
                "or choose another folder with RUNBOOK_DATA=/some/folder."
            )
        if not said:
            say(f"Waiting up to {wait:.0f} s for {_holder(folder)} to leave {folder}.")
            said = True
        time.sleep(POLL)


def try_lock(folder: Path) -> FolderLock | None:
    """Lock an existing folder without waiting; None when it is taken, or was removed under our hands."""
    path = folder / data_folder.LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return FolderLock(folder, descriptor)
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def is_free(folder: Path) -> bool:
    """Tell whether nobody holds the folder, no server of an earlier stack either."""
    if not (folder / data_folder.LOCK).exists():
        return True
    lock = try_lock(folder)
    if lock is None:
        return False
    lock.release()
    return True


def holder_pid(folder: Path) -> int | None:
    """Return the pid of the stack that signed the lock; None when that process is gone."""
    signed = read_object(folder / data_folder.LOCK) or {}
    pid = signed.get("pid")
    return pid if isinstance(pid, int) and is_alive(pid, signed.get("identity")) else None


def _holder(folder: Path) -> str:
    pid = holder_pid(folder)
    return "servers of a stack that was killed" if pid is None else f"a running stack (pid {pid})"


def _sign(lock: FolderLock) -> None:
    """Write who we are into the lock file, in place: a rename would leave the lock on the old file."""
    signed = json.dumps({"pid": os.getpid(), "identity": process_identity(os.getpid())})
    with contextlib.suppress(OSError):  # a full disk costs the pid in a message, no more
        os.ftruncate(lock.descriptor, 0)
        os.pwrite(lock.descriptor, signed.encode(), 0)
