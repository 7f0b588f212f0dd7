"""Faults that people order: what breaks, for whom, for how long and how often."""

import random
import secrets
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from simulator.fault_kinds import KINDS
from simulator.identity import Identity
from simulator.log import is_own

DAY_S = 86_400


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"no such kind; there are {', '.join(sorted(KINDS))}")
    return kind


def _breakable(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must start with a slash")
    if is_own(path) and path != "/":
        raise ValueError("the simulator's own pages are never broken")
    return path


def _has_a_body(status: int) -> int:
    if status in {204, 205, 304}:
        raise ValueError("this status carries no body")
    return status


class FaultOrder(BaseModel):
    """Matchers that are left out match everything."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[str, AfterValidator(_known_kind)]
    path: Annotated[str, AfterValidator(_breakable)] | None = None
    """A prefix."""
    method: Literal["GET", "POST"] | None = None
    account_id: str | None = None
    grant_type: str | None = None
    seconds: float | None = Field(None, gt=0, le=DAY_S)
    """How long the fault itself lasts; without it, until it is lifted."""
    count: int | None = Field(None, ge=1)
    """How many requests it breaks before it is used up."""
    share: float = Field(1, gt=0, le=1)
    """The part of the matching requests that it breaks, drawn for each."""
    status: Annotated[int, Field(ge=200, le=599), AfterValidator(_has_a_body)] = 503
    retry_after: int | str | None = None
    """Seconds, or an HTTP date (RFC 9110 section 10.2.3)."""
    body: str | dict[str, Any] | list[Any] | None = None
    seconds_hold: float = Field(3600, gt=0, le=DAY_S)
    """How long a hanging request is held."""


class Fault:
    def __init__(self, order: FaultOrder) -> None:
        self.id = f"fault_{secrets.token_hex(4)}"
        self.order = order
        self.hits = 0
        self.held: set[Callable[[], None]] = set()
        """How to end each request that hangs on this fault right now."""
        self._ends = None if order.seconds is None else time.monotonic() + order.seconds

    @property
    def seconds_left(self) -> float | None:
        return None if self._ends is None else round(max(0.0, self._ends - time.monotonic()), 3)

    @property
    def count_left(self) -> int | None:
        return None if self.order.count is None else self.order.count - self.hits

    @property
    def is_live(self) -> bool:
        return self.seconds_left != 0 and self.count_left != 0

    def may_hit(self, path: str, method: str) -> bool:
        order = self.order
        return self.is_live and path.startswith(order.path or "/") and (order.method is None or order.method == method)

    def hits_whom(self, identity: Identity) -> bool:
        order = self.order
        return (order.account_id is None or order.account_id == identity.account_id) and (
            order.grant_type is None or order.grant_type == identity.grant_type
        )

    def view(self) -> dict[str, Any]:
        return {
            "id": self.id,
            **self.order.model_dump(),
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
        self._faults = {fault.id: fault for fault in self._faults.values() if fault.is_live or fault.held}
