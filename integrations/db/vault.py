"""Sealed values, and what is derived beside them: the tokens of invitation links.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce before the ciphertext. The associated data bind a value to
its place: ciphertext that is copied to another row, version or column does not open. The key's id is stored beside
each value and says which key of the ring opens it.
"""

import base64
import hashlib
import hmac
import os
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from integrations.domain.errors import NotReadyError
from integrations.domain.keyring import Ring
from integrations.keyring import Keys

_NONCE: Final = 12
_KEY: Final = 32
_LINKS: Final = "runbook invitation link"


class Vault:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    @property
    def key_id(self) -> str:
        """The key that seals. Read it in the same breath as `seal`, with nothing awaited in between."""
        return self._keys.ring().current

    @property
    def ring(self) -> Ring:
        return self._keys.ring()

    @property
    def where(self) -> str:
        """Where a person finds the keys."""
        return self._keys.where

    def seal(self, secret: bytes, place: str) -> bytes:
        return self.seal_with(self.key_id, secret, place)

    def seal_with(self, key_id: str, secret: bytes, place: str) -> bytes:
        """Seal with a key of the ring that need not be the current one. Raises NotReadyError when it is not in it."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self._key(key_id, place)).encrypt(nonce, secret, place.encode())

    def open(self, sealed: bytes, key_id: str, place: str) -> bytes:
        """Open a sealed value. Raises NotReadyError when no ring has the key, or the value is not of this place."""
        try:
            return AESGCM(self._key(key_id, place)).decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
        except InvalidTag:
            raise NotReadyError(
                f"{place} does not open with key {key_id!r}: a wrong {self.where}, or altered data"
            ) from None

    def link_token(self, session_id: UUID) -> str:
        """The 256-bit handle of an invitation's link. Derived, never stored."""
        digest = hmac.digest(self.derived(_LINKS), session_id.bytes, "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def derived(self, purpose: str) -> bytes:
        """A key for one use, from the ring's root: it says nothing about any other, and outlives rotations."""
        return HKDFExpand(algorithm=SHA256(), length=_KEY, info=purpose.encode()).derive(self._keys.ring().root)

    def has(self, key_id: str) -> bool:
        """Is this key in the ring? One that is not may have been made a moment ago by another process."""
        return key_id in self._keys.ring().keys or key_id in self._keys.reread().keys

    def _key(self, key_id: str, place: str) -> bytes:
        if not self.has(key_id):
            raise NotReadyError(
                f"{place} is sealed with key {key_id!r}, and this process has only {self._ids()}: put {key_id!r} back "
                f"into {self.where} (`runbook keys status`)"
            )
        return self._keys.ring().keys[key_id]

    def _ids(self) -> str:
        return ", ".join(repr(key_id) for key_id in self._keys.ring().keys)


def digest(secret: str) -> bytes:
    """What is stored of a value that is only ever compared: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def credential_place(connection_id: UUID, version: int) -> str:
    return f"credential {connection_id} version {version}"


def session_place(session_id: UUID, column: str) -> str:
    return f"consent session {session_id} {column}"


def address_place(audience: str, name: str, channel: str) -> str:
    """An audience has no spaces: no two rows have the same place."""
    return f"{channel} address of {audience}" + (f" ({name})" if name else "")


def webhook_place(provider_id: str, channel: str, version: int) -> str:
    """Neither a provider's id nor a channel's name has spaces: no two rows have the same place."""
    return f"webhook secret {provider_id} {channel} {version}"
