"""Made once per data folder: `secrets.json`, and the ring of encryption keys in `keys.json`."""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

from integrations.domain.keyring import Ring
from integrations.keyring import KeysFile
from starters.embedded.errors import EmbeddedError
from starters.embedded.files import read_object, write_atomic

NAME = "secrets.json"
RING = "keys.json"


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


def keys_file(folder: Path) -> Path:
    """Return the file of the ring, made on first use; call with the lock held.

    The first key comes from the secrets, where earlier releases kept it. It is gone from there once the ring has it: a
    key that retires must not be left behind in another file. Raises EmbeddedError like `secret`.
    """
    path = folder / RING
    if not path.exists():
        key = secret(folder, "key", lambda: b64encode(os.urandom(32)).decode())
        KeysFile(path).create(Ring.of_one("k1", b64decode(key)))
    kept = read_object(folder / NAME) or {}
    if kept.pop("key", None) is not None:
        write_atomic(folder / NAME, json.dumps(kept, indent=1))
    return path
