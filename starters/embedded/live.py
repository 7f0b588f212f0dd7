"""`live.json`: how a command finds the running stack. Standard library only."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starters.embedded.files import read_object, write_atomic
from starters.embedded.identity import is_alive, process_identity

NAME = "live.json"


def write_live(folder: Path, facts: Mapping[str, Any]) -> None:
    """Announce this process as the running stack, with `facts` (JSON values) for commands; call with the lock held."""
    me = {"pid": os.getpid(), "identity": process_identity(os.getpid())}
    write_atomic(folder / NAME, json.dumps({**facts, **me}, indent=1))


def read_live(folder: Path) -> dict[str, Any] | None:
    """Return what the running stack announced; None when none runs, whatever file a killed one left."""
    try:
        facts = read_object(folder / NAME)
    except (NotADirectoryError, PermissionError):
        return None
    return facts if facts is not None and is_alive(facts.get("pid"), facts.get("identity")) else None


def clear_live(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)
