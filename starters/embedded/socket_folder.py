"""Where PostgreSQL's unix socket lies: the kernel limits its path. Standard library only."""

import os
import stat
import sys
from pathlib import Path

from starters.embedded.errors import EmbeddedError
from starters.embedded.location import short_hash

PORT = 5432
"""Only a part of the socket's name; nothing listens on TCP."""

LIMIT = 107 if sys.platform == "linux" else 103
"""Bytes in the path of a unix socket."""


def socket_path(folder: Path) -> Path:
    return folder / f".s.PGSQL.{PORT}"


def choose_socket_folder(data: Path, inside: Path, owner: int) -> Path:
    """Return `inside` when kernel and driver can take a socket's path there, else a private short folder for `data`.

    Raises EmbeddedError when that short folder belongs to someone else than user `owner`.
    """
    # asyncpg takes a comma for the border between two hosts, however it is quoted.
    if len(os.fsencode(socket_path(inside))) <= LIMIT and "," not in str(inside):
        return inside
    short = short_socket_folder(data)
    try:
        short.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(short, owner, -1)
    info = short.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != owner or info.st_mode & 0o077:
        raise EmbeddedError(
            f"The path {data} is not fit for a unix socket, and {short} is not a private folder of user {owner}; "
            "remove that, or choose a shorter path with RUNBOOK_DATA=/some/folder."
        )
    return short


def short_socket_folder(data: Path) -> Path:
    """Return the folder under /tmp that stands for a data folder with a long path. TMPDIR itself may be long."""
    return Path("/tmp") / f"runbook-{os.geteuid()}-{short_hash(data)}"  # noqa: S108 - checked for owner and mode before use
