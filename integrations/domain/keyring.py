"""The ring of keys as a value: the key that seals, those that still open, and the root that links are derived from.

Keys stand in the order in which they were made. One behind the current key is staged: it opens, and has not sealed yet.
The root is no encryption key: a rotation leaves it alone, and so every link that was mailed.
"""

import base64
import hmac
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from integrations.domain.errors import StopError

_KEY_BYTES: Final = 32
KEY_ID: Final = r"[A-Za-z0-9_.\-]{1,32}"
_FIELDS: Final = {"current", "root", "keys"}


@dataclass(frozen=True, slots=True)
class Ring:
    current: str
    keys: Mapping[str, bytes] = field(repr=False)
    root: bytes = field(repr=False)

    @classmethod
    def of_one(cls, key_id: str, key: bytes) -> Self:
        return cls(key_id, {key_id: key}, root_of(key))

    @property
    def staged(self) -> list[str]:
        """The keys that were made after the current one, the newest last."""
        ids = list(self.keys)
        return ids[ids.index(self.current) + 1 :]

    def with_key(self, key_id: str, key: bytes) -> "Ring":
        """The ring with one more key, staged."""
        return replace(self, keys={**self.keys, key_id: key})

    def activated(self, key_id: str) -> "Ring":
        """The ring that seals with this key. Raises StopError when there is no such key."""
        if key_id not in self.keys:
            raise StopError(f"the ring has no key {key_id!r}; it has {', '.join(self.keys)}")
        return replace(self, current=key_id)

    def without(self, key_id: str) -> "Ring":
        """The ring without a key that nothing needs any more. Raises StopError for the current one."""
        if key_id == self.current:
            raise StopError(f"{key_id!r} is the current key; `runbook keys rotate` makes another one current")
        return replace(self, keys={each: key for each, key in self.keys.items() if each != key_id})


def root_of(key: bytes) -> bytes:
    """The root of an installation that has only a key: what HKDF extracts from it (RFC 5869, 2.2).

    One way: whoever is left with the root cannot open what the key sealed.
    """
    return hmac.digest(bytes(_KEY_BYTES), key, "sha256")


def next_id(taken: Collection[str]) -> str:
    """The id of a new key: `k` and a number above every one that was ever used."""
    numbers = [int(found[1]) for found in (re.fullmatch(r"k(\d{1,9})", key_id) for key_id in taken) if found]
    return f"k{max(numbers, default=0) + 1}"


def key_of(text: str) -> bytes:
    """32 bytes from base64. Raises ValueError, which does not show them."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"must be {_KEY_BYTES} bytes in base64: make one with `openssl rand -base64 32`")
    return key


def written(ring: Ring) -> str:
    """The ring as the text of its file."""
    keys = {key_id: _text(key) for key_id, key in ring.keys.items()}
    return json.dumps({"current": ring.current, "root": _text(ring.root), "keys": keys}, indent=1) + "\n"


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def parsed(text: str) -> Ring:
    """The ring in the text of a file. Raises ValueError, which names the field and shows no key."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        raise ValueError("is no JSON") from None
    if not isinstance(found, dict) or set(found) != _FIELDS or not isinstance(found["keys"], dict):
        raise ValueError("must be an object of current, root and keys")
    keys = {key_id: _named(f"keys.{key_id}", key) for key_id, key in found["keys"].items()}
    wrong = [key_id for key_id in keys if not re.fullmatch(KEY_ID, key_id)]
    if wrong:
        raise ValueError(f"keys: {wrong[0]!r} is no id: letters, digits, dot, dash and underscore, at most 32")
    if found["current"] not in keys:
        raise ValueError(f"current: there is no key {found['current']!r} in it")
    return Ring(found["current"], keys, _named("root", found["root"]))


def _named(name: str, value: object) -> bytes:
    try:
        return key_of(str(value))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
