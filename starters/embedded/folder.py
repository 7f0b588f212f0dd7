"""The data folder: that it is ours, of the version we know, and open to nobody else. Standard library only."""

import os
import stat
from pathlib import Path

from starters.embedded.errors import EmbeddedError
from starters.embedded.files import write_atomic

LAYOUT = 1
"""Raised whenever an older folder cannot be used any more."""

POSTGRES_MAJOR = 18

MARK = "runbook data folder"
LOCK = "lock"
VERSION = "VERSION"
_BEFORE_VERSION = {LOCK, VERSION + ".tmp"}
"""What a start leaves behind that was killed before it wrote VERSION."""


def make(folder: Path) -> None:
    """Create the folder, or make sure that it is ours to use; nothing is changed in a folder that is not.

    Raises EmbeddedError for a folder of another user, one that holds other things, or one of another version.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"The data folder {folder} cannot be made ({error.strerror}); {_ELSEWHERE}.") from error
    check(folder)
    # As root, PostgreSQL runs as another account, which must get through to its own folder; it can list nothing.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    (folder / "logs").mkdir(mode=0o700, exist_ok=True)


def check(folder: Path) -> None:
    """Raise EmbeddedError unless the existing folder is ours: empty, or of this version."""
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} is not a folder of user {os.geteuid()}; {_ELSEWHERE}.")
    if not is_ours(folder):
        if {entry.name for entry in folder.iterdir()} - _BEFORE_VERSION:
            raise EmbeddedError(f"The folder {folder} holds other things and is left alone; {_ELSEWHERE}.")
        return
    found = (folder / VERSION).read_text(encoding="utf-8")
    if found != _version():
        has = ", ".join(found.splitlines()[1:])
        raise EmbeddedError(
            f"The data folder {folder} has {has}, and this release needs layout {LAYOUT}, postgres {POSTGRES_MAJOR}; "
            f"`make reset` starts afresh and loses what is in it, or {_ELSEWHERE}."
        )


def is_ours(folder: Path) -> bool:
    """Tell whether the folder carries our mark, of whichever version."""
    try:
        return (folder / VERSION).read_text(encoding="utf-8").startswith(MARK + "\n")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return False


def stamp(folder: Path) -> None:
    """Write VERSION when it is missing; call with the lock held."""
    if not is_ours(folder):
        write_atomic(folder / VERSION, _version())


def _version() -> str:
    return f"{MARK}\nlayout {LAYOUT}\npostgres {POSTGRES_MAJOR}\n"


_ELSEWHERE = "choose another folder with RUNBOOK_DATA=/some/folder"
