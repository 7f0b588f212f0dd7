"""Ids of events: in the order of time, so that a million of them are written at one end of each index."""

import secrets
import time
from datetime import datetime
from uuid import UUID


def new_event_id() -> UUID:
    """A UUID of version 7: milliseconds since 1970, and 74 random bits. RFC 9562, section 5.7."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    high, low = random >> 62, random & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


def ids_before(at: datetime) -> UUID:
    """The end of all such ids that were made before a moment: each is smaller, and each later one is not."""
    return UUID(int=int(at.timestamp() * 1000) << 80)
