"""The encryption key and what is made from it: sealed values, and the tokens of invitation links.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce before the ciphertext. The associated data bind a value to
its place: ciphertext that is copied to another row, version or column does not open. The key's id is stored beside
each value, so that a later key ring can tell which key opens it.
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
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from integrations.domain.errors import NotReadyError

_NONCE: Final = 12
_KEY: Final = 32


class Vault:
    def __init__(self, key: bytes, key_id: str) -> None:
        self._aead = AESGCM(key)
        # A key for one use: an invitation link that leaks says nothing about the key that seals tokens (RFC 5869).
        self._link_key = HKDF(algorithm=SHA256(), length=_KEY, salt=None, info=b"runbook invitation link").derive(key)
        self.key_id = key_id

    def seal(self, secret: bytes, place: str) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, secret, place.encode())

    def open(self, sealed: bytes, key_id: str, place: str) -> bytes:
        """Open a sealed value. Raises NotReadyError when the key is not this one, or the value not of this place."""
        if key_id != self.key_id:
            raise NotReadyError(f"{place} is sealed with key {key_id!r}, and this process has only {self.key_id!r}")
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
        except InvalidTag:
            raise NotReadyError(
                f"{place} does not open with key {key_id!r}: a wrong RUNBOOK_KEY, or altered data"
            ) from None

    def link_token(self, session_id: UUID) -> str:
        """The 256-bit handle of an invitation's link. Derived, never stored."""
        digest = hmac.digest(self._link_key, session_id.bytes, "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def digest(secret: str) -> bytes:
    """What is stored of a value that is only ever compared: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def credential_place(connection_id: UUID, version: int) -> str:
    return f"credential {connection_id} version {version}"


def session_place(session_id: UUID, column: str) -> str:
    return f"consent session {session_id} {column}"
