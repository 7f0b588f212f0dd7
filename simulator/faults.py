"""The faults that were ordered, and which of them are live."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from simulator.clock import iso
from simulator.order import Order

AnOrder = TypeVar("AnOrder", bound=Order)


class Fault(Generic[AnOrder]):
    """waiting ──after_s──▶ live ──seconds, count, or lifted──▶ over."""

    def __init__(self, order: AnOrder, ordered_at: float) -> None:
        """`ordered_at`: on the monotonic clock; the faults of a script share it, so that one begins as another ends."""
        self.id = f"fault_{secrets.token_hex(4)}"
        self.order = order
        self.hits = 0
        self.hits_of_key: Counter[str] = Counter()
        self.held: set[Callable[[], None]] = set()
        """How to end each request that hangs on this fault right now."""
        self.starts_at = time.time() + order.after_s
        self._starts = ordered_at + order.after_s
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
        return self.count_left == 0 or (self._ends is not None and time.monotonic() >= self._ends)

    @property
    def is_live(self) -> bool:
        return not self.is_waiting and not self.is_over

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
        self._faults: dict[str, Fault[Any]] = {}

    def add(self, order: AnOrder) -> Fault[AnOrder]:
        return self.script([order])[0]

    def script(self, orders: Sequence[AnOrder]) -> list[Fault[AnOrder]]:
        self._forget_the_dead()
        now = time.monotonic()
        faults = [Fault(order, now) for order in orders]
        self._faults |= {fault.id: fault for fault in faults}
        return faults

    def listed(self) -> list[Fault[Any]]:
        self._forget_the_dead()
        return list(self._faults.values())

    def live(self, kind_of_order: type[AnOrder]) -> list[Fault[AnOrder]]:
        """The oldest first: it is the one that breaks what several want."""
        return [fault for fault in self._faults.values() if isinstance(fault.order, kind_of_order) and fault.is_live]

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
