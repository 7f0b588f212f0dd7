"""Which fault breaks a request."""

from decimal import Decimal

from simulator.fault_order import FaultOrder
from simulator.faults import Fault, Faults
from simulator.identity import Identity


class FaultChoice:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._ranks: dict[str, int] = {}
        """Each Idempotency-Key's place among those that came; of shares of keys only."""

    def candidates(self, path: str, method: str) -> list[Fault[FaultOrder]]:
        return [fault for fault in self._faults.live(FaultOrder) if fault.order.may_hit(path, method)]

    def take(
        self, candidates: list[Fault[FaultOrder]], identity: Identity, key: str | None
    ) -> Fault[FaultOrder] | None:
        """Choose the oldest fault that breaks this request, and count the hit."""
        for fault in candidates:
            # Looked at again: other requests may have used it up while this one's body was read.
            if fault.is_live and fault.order.hits_whom(identity) and self._draws(fault, key):
                fault.hits += 1
                if key is not None:
                    fault.hits_of_key[key] += 1
                return fault
        return None

    def _draws(self, fault: Fault[FaultOrder], key: str | None) -> bool:
        order = fault.order
        if order.per_key is not None and (key is None or fault.hits_of_key[key] >= order.per_key):
            return False
        if order.share_of == "requests":
            return order.draws()
        return key is not None and self._is_in_turn(key, Decimal(str(order.share)))

    def _is_in_turn(self, key: str, share: Decimal) -> bool:
        """By rank and not by chance: a proof counts on exactly one of a hundred, whoever sends."""
        rank = self._ranks.setdefault(key, len(self._ranks) + 1)
        return int(rank * share) > int((rank - 1) * share)
