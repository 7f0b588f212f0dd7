"""The faults that were ordered: which of them are live, and which request each of them breaks."""

import random
import secrets
import time
from collections.abc import Callable
from typing import Any

from simulator.clock import iso
from simulator.fault_order import FaultOrder, each
from simulator.identity import Identity


class Fault:
    """waiting ──after_s──▶ live ──seconds, count, or lifted──▶ over."""

    def __init__(self, order: FaultOrder) -> None:
        self.id = f"fault_{secrets.token_hex(4)}"
        self.order = order
        self.hits = 0
        self.held: set[Callable[[], None]] = set()
        """How to end each request that hangs on this fault right now."""
        self.starts_at = time.time() + order.after_s
        self._starts = time.monotonic() + order.after_s
        self._ends = None if order.seconds is None else self._starts + order.seconds

    @property
    def is_waiting(self) -> bool:
        return time.monotonic() < self._starts

    @property
    def seconds_left(self) -> float | None:
        return None if self._ends is None else round(max(0.0, self._ends - max(self._starts, time.monotonic())), 3)

    @property
    def count_left(self) -> int | None:
        return None if self.order.count is None else self.order.count - self.hits

    @property
    def is_over(self) -> bool:
        return self.seconds_left == 0 or self.count_left == 0

    @property
    def is_live(self) -> bool:
        return not self.is_waiting and not self.is_over

    def may_hit(self, path: str, method: str) -> bool:
        order = self.order
        return (
            self.is_live
            and (order.path is None or path.startswith(tuple(each(order.path))))
            and (order.method is None or order.method == method)
        )

    def hits_whom(self, identity: Identity) -> bool:
        order = self.order
        return (order.account_id is None or identity.account_id in each(order.account_id)) and (
            order.grant_type is None or order.grant_type == identity.grant_type
        )

    def view(self) -> dict[str, Any]:
        return {
            "id": self.id,
            **self.order.model_dump(),
            "waiting": self.is_waiting,
            "starts_at": iso(self.starts_at),
            "seconds_left": self.seconds_left,
            "count_left": self.count_left,
            "hits": self.hits,
            "holding": len(self.held),
        }


class Faults:
    """In memory: a restart heals the provider."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def add(self, order: FaultOrder) -> Fault:
        self._forget_the_dead()
        fault = Fault(order)
        self._faults[fault.id] = fault
        return fault

    def listed(self) -> list[Fault]:
        self._forget_the_dead()
        return list(self._faults.values())

    def candidates(self, path: str, method: str) -> list[Fault]:
        return [fault for fault in self._faults.values() if fault.may_hit(path, method)]

    def take(self, candidates: list[Fault], identity: Identity) -> Fault | None:
        """Choose the oldest fault that breaks this request, and count the hit."""
        for fault in candidates:
            # Looked at again: other requests may have used it up while this one's body was read.
            if fault.is_live and fault.hits_whom(identity) and random.random() < fault.order.share:  # noqa: S311 no secret
                fault.hits += 1
                return fault
        return None

    def lift(self, fault_id: str) -> bool:
        fault = self._faults.pop(fault_id, None)
        if fault is None:
            return False
        for end in list(fault.held):
            end()
        return True

    def lift_all(self) -> int:
        return sum(self.lift(fault_id) for fault_id in list(self._faults))

    def _forget_the_dead(self) -> None:
        """Drop what is over, unless requests still hang on it: they can be let go only by its id."""
        self._faults = {fault.id: fault for fault in self._faults.values() if not fault.is_over or fault.held}
