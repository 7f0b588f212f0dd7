"""What the ledgers share: an item's states, who has which partition, and what a failure is called.

pending ──▶ delivered                      the flow: in batches, nothing else is written of an item
   ├──▶ retrying ──▶ delivered | dead      left the flow: one workflow of its own
   └──▶ held ──▶ delivered | retrying      waits behind an earlier item of its order key that is `retrying`
dead ──▶ delivered | dead                  by a replay
"""

import hashlib
import re
import zlib
from enum import StrEnum
from typing import Final

from integrations.domain.message import Message

PARTITIONS: Final = 16
"""Each ledger's fixed number of partitions: dispatchers share them out, so the number never changes."""
WHOLE: Final = "*"
"""In the place of an order key: everything that goes to one destination waits, because that fails as a whole."""
WHOLE_AFTER: Final = 20
"""So many failures in a row, and not one success, mean that the destination is broken and not the items."""
_TEXT_LIMIT: Final = 1000
_CAUSE_LIMIT: Final = 200


class ItemStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    """Claimed, in a ledger whose effect is somebody else's. Never committed where effect and settle are one."""
    HELD = "held"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    DEAD = "dead"


class Failure(Message):
    """Why an item could not be delivered: for people, and in a form that groups with others of its kind."""

    cause: str
    """The same for each item that fails for the same reason: no ids, no numbers, no values."""
    error: str
    """What was said this time, bounded, without secrets."""

    @classmethod
    def of(cls, kind: str, text: str) -> "Failure":
        """`kind` is an error's type. The first line of its text tells the cause."""
        first = (text.strip().splitlines() or [""])[0]
        return cls(cause=f"{kind}: {_nameless(first)}"[:_CAUSE_LIMIT], error=f"{kind}: {text.strip()}"[:_TEXT_LIMIT])

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that stand for the cause."""
        return hashlib.sha256(self.cause.encode()).hexdigest()[:12]


def _nameless(text: str) -> str:
    text = re.sub(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}", "…", text)
    return re.sub(r"\d+", "…", text)


SUSPECTED: Final = Failure.of("Crash", "alone in its batch, and the process ended without a word each time")
"""What ended its process, as it seems: nobody has seen it do so."""


def may_end_the_process(cause: str) -> bool:
    return cause == SUSPECTED.cause


def partition_of(order_key: str) -> int:
    """The partition of everything that must stay in order, 0 to 15. The same in every process and release."""
    return zlib.crc32(order_key.encode()) % PARTITIONS


def partitions_of(number: int, dispatchers: int) -> list[int]:
    """The partitions of dispatcher `number` (from 0) when there are so many of them."""
    return list(range(number, PARTITIONS, dispatchers))


def tenth(batch: int) -> int:
    """The size of the next batch after one that did not end: whatever ended it is among these."""
    return max(1, batch // 10)
