"""Stop the stack of a data folder from outside, and remove the folder. Standard library only."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from starters.embedded import folder as data_folder
from starters.embedded.errors import EmbeddedError
from starters.embedded.lock import POLL, holder_pid, is_free, try_lock
from starters.embedded.socket_folder import short_socket_folder

WAIT = 60.0
"""Seconds for workers to finish what they have in hand, and for both servers to stop."""


def down(folder: Path, *, wait: float = WAIT) -> bool:
    """Stop the stack that holds the folder and wait until all its servers are gone; False when none was running.

    Raises EmbeddedError when it still runs after `wait` seconds.
    """
    if is_free(folder):
        return False
    # The signature in the lock, not live.json: it is there from the first moment, before the stack is ready.
    pid = holder_pid(folder)
    if pid == os.getpid():
        raise EmbeddedError(
            f"The data folder {folder} is held by this very process (pid {pid}); stop its servers first."
        )
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + wait
    while not is_free(folder):
        if time.monotonic() > deadline:
            who = "its servers" if pid is None else f"pid {pid}"
            raise EmbeddedError(f"The stack in {folder} still runs after {wait:.0f} s ({who}); see {folder}/logs.")
        time.sleep(POLL)
    return True


def remove(folder: Path) -> bool:
    """Delete the data folder without a trace; False when there is none.

    Raises EmbeddedError when a stack runs in it or it is not ours: nothing without our mark is ever deleted.
    VERSION goes last, so that a removal that was cut short can be repeated.
    """
    if not folder.exists():
        return False
    if not data_folder.is_ours(folder) or folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} carries no mark of ours and is left alone; remove it by hand if you mean it.")
    lock = try_lock(folder)
    if lock is None:
        raise EmbeddedError(f"The data folder {folder} is in use; stop it by `make down` first.")
    with lock:
        last = (data_folder.VERSION, data_folder.LOCK)
        for entry in list(folder.iterdir()):
            if entry.name not in last:
                _delete(entry)
        _delete(short_socket_folder(folder))
        for name in last:
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a mount point stays, empty
            folder.rmdir()
    return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
