"""Ids of events: in the order of time, so that a million of them are written at one end of each index."""

import hashlib
import secrets
import time
from datetime import datetime
from uuid import UUID


def new_event_id() -> UUID:
    """A UUID of version 7: milliseconds since 1970, and 74 random bits. RFC 9562, section 5.7."""
    return _version_7(time.time_ns() // 1_000_000, secrets.randbits(74))


def derived_event_id(source: UUID, about: str) -> UUID:
    """The same id for the same source, itself of version 7, and what it is about. As old as the source."""
    digest = hashlib.sha256(source.bytes + about.encode()).digest()
    return _version_7(source.int >> 80, int.from_bytes(digest) >> (256 - 74))


def _version_7(milliseconds: int, random: int) -> UUID:
    high, low = random >> 62, random & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


def ids_before(at: datetime) -> UUID:
    """The end of all such ids that were made before a moment: each is smaller, and each later one is not."""
    return UUID(int=int(at.timestamp() * 1000) << 80)
