"""Small files that survive a kill between any two lines."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, text: str) -> None:
    """Put `text` into `path` (0600): readers see the old file or the new one, never a part.

    The temporary name is fixed, so a killed writer leaves one file that the next writer replaces. Callers hold the
    folder lock, so there is one writer at a time.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`, or None when there is none or it cannot be parsed."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def last_lines(path: Path, count: int = 15) -> str:
    """Return the last `count` lines of a log, empty when it was never written."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 16_384))
            tail = file.read()
    except FileNotFoundError:
        return ""
    return "\n".join(tail.decode(errors="replace").splitlines()[-count:])
