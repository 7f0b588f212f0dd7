"""`make clean`: stop what this checkout runs and remove every folder it made. Standard library only."""

import shutil
import sys
from pathlib import Path

from starters.embedded.down import down, remove
from starters.embedded.errors import EmbeddedError
from starters.embedded.folder import is_ours
from starters.embedded.location import locations
from starters.embedded.postgres_binaries import copies


def clean() -> list[Path]:
    """Remove the data folders of this checkout and root's copies of PostgreSQL; what lies elsewhere is not ours.

    Returns what was removed. Raises EmbeddedError for a stack that cannot be stopped.
    """
    removed = []
    for folder in locations():
        if folder.is_dir() and is_ours(folder):
            down(folder)
            remove(folder)
            removed.append(folder)
    for copy in copies():
        shutil.rmtree(copy)
        removed.append(copy)
    return removed


if __name__ == "__main__":
    try:
        for path in clean():
            print(f"removed {path}")  # noqa: T201 - the command's output
    except EmbeddedError as error:
        sys.exit(str(error))
