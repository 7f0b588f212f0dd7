"""Whom PostgreSQL runs as. Standard library only."""

import os
import pwd
from pathlib import Path

from starters.embedded.errors import EmbeddedError
from starters.embedded.process import User


def postgres_account() -> User | None:
    """Return None for ourselves, or for root, whom PostgreSQL refuses, the account `nobody`.

    `nobody` is on every Linux and macOS already. An account of its own would be tidier, and would be a change to a
    person's machine that outlives us and that nobody asked for. Raises EmbeddedError for a user id without a name.
    """
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise EmbeddedError(
                f"PostgreSQL refuses to run as user id {os.geteuid()}, which has no name on this machine; "
                "run as a user with a name, or bring a database with RUNBOOK_DATABASE_URL."
            ) from None
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root and there is no user `nobody`; run as another user."
        ) from None
    return User(entry.pw_uid, entry.pw_gid)


def check_reachable(path: Path, account: User) -> None:
    """Raise EmbeddedError when a folder above `path` is closed to `account`. We never open it: it is not ours."""
    for above in path.parents:
        info = above.stat()
        owned = info.st_uid == account.uid
        if not info.st_mode & (0o100 if owned else 0o001):
            raise EmbeddedError(
                f"PostgreSQL cannot run as root and uses the account `nobody`, for which {above} is closed "
                f"(mode {info.st_mode & 0o777:04o}), and so is {path}; choose RUNBOOK_DATA=/var/tmp/some-folder."
            )
