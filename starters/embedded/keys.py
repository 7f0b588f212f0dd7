"""`secrets.json`: values made once per data folder, such as the encryption key."""

import json
from collections.abc import Callable
from pathlib import Path

from starters.embedded.errors import EmbeddedError
from starters.embedded.files import read_object, write_atomic

NAME = "secrets.json"


def secret(folder: Path, name: str, factory: Callable[[], str]) -> str:
    """Return the secret `name`, made by `factory` and written down (0600) on first use; call with the lock held.

    Raises EmbeddedError when the file cannot be read: a new key in its place would lose what the old one encrypted.
    """
    path = folder / NAME
    kept = read_object(path)
    if kept is None and path.exists():
        raise EmbeddedError(
            f"{path} is damaged; put it back from a copy, or `make reset` loses the data with its keys."
        )
    kept = kept or {}
    if name not in kept:
        kept[name] = factory()
        write_atomic(path, json.dumps(kept, indent=1))
    return str(kept[name])
