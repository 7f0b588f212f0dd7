"""What other systems post here: every arrival counted by its key, and the newest kept to be looked at."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.clock import iso

KEPT = 20_000
BODY_KEPT = 65_536
"""Bytes: enough for a message, and 20,000 of them still fit into a machine."""


@dataclass(slots=True)
class OfKey:
    """What became of one Idempotency-Key."""

    arrivals: int = 0
    accepted: int = 0


@dataclass(slots=True)
class Counts:
    """Of one name, for as long as the process lives."""

    arrivals: int = 0
    accepted: int = 0
    after_acceptance: int = 0
    by_key: dict[str, OfKey] = field(default_factory=dict)

    def view(self) -> dict[str, Any]:
        attempts = Counter(key.arrivals for key in self.by_key.values())
        return {
            "arrivals": self.arrivals,
            "accepted": self.accepted,
            "keys": len(self.by_key),
            "accepted_keys": sum(key.accepted > 0 for key in self.by_key.values()),
            "accepted_twice": sum(key.accepted > 1 for key in self.by_key.values()),
            "after_acceptance": self.after_acceptance,
            "attempts": {str(arrivals): keys for arrivals, keys in sorted(attempts.items())},
        }


@dataclass(slots=True)
class Arrival:
    name: str
    at: float
    key: str | None
    webhook_id: str | None
    content_type: str | None
    size: int
    body: bytes
    accepted: bool = False
    status: int | None = None
    """What the sender was answered; None when nothing was, or not yet."""

    def view(self) -> dict[str, Any]:
        return {
            "at": iso(self.at),
            "idempotency_key": self.key,
            "webhook_id": self.webhook_id,
            "content_type": self.content_type,
            "size": self.size,
            "body": self.body.decode("utf-8", "replace"),
            "accepted": self.accepted,
            "status": self.status,
        }


class Inbox:
    def __init__(self) -> None:
        self._kept: deque[Arrival] = deque(maxlen=KEPT)
        self._counts: dict[str, Counts] = {}

    def arrives(self, name: str, headers: Mapping[bytes, bytes], body: bytes) -> Arrival:
        arrival = Arrival(
            name=name,
            at=time.time(),
            key=_text(headers.get(b"idempotency-key")),
            webhook_id=_text(headers.get(b"webhook-id")),
            content_type=_text(headers.get(b"content-type")),
            size=len(body),
            body=body[:BODY_KEPT],
        )
        self._kept.append(arrival)
        counts = self._counts.setdefault(name, Counts())
        counts.arrivals += 1
        if arrival.key is not None:
            of_key = counts.by_key.setdefault(arrival.key, OfKey())
            of_key.arrivals += 1
            counts.after_acceptance += of_key.accepted > 0
        return arrival

    def accept(self, arrival: Arrival) -> None:
        """Take it, whether or not its sender will hear of that."""
        arrival.accepted = True
        counts = self._counts.setdefault(arrival.name, Counts())
        counts.accepted += 1
        if arrival.key is not None:
            counts.by_key.setdefault(arrival.key, OfKey()).accepted += 1

    def view(self) -> dict[str, Any]:
        return {name: counts.view() for name, counts in self._counts.items()}

    def newest(self, name: str, key: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest last."""
        found = [each for each in self._kept if each.name == name and key in {None, each.key}]
        return [arrival.view() for arrival in found[-limit:]]

    def empty(self) -> int:
        forgotten = sum(counts.arrivals for counts in self._counts.values())
        self._kept.clear()
        self._counts.clear()
        return forgotten


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")
