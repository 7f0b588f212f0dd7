"""What people order: what breaks, for whom, from when on, for how long and how often."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from simulator.fault_kinds import KINDS
from simulator.identity import Identity
from simulator.log import is_own
from simulator.order import Order, Several, each


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"no such kind; there are {', '.join(sorted(KINDS))}")
    return kind


def _breakable(paths: Several) -> Several:
    for path in each(paths):
        if not path.startswith("/"):
            raise ValueError("must start with a slash")
        if is_own(path) and path != "/":
            raise ValueError("the simulator's own pages are never broken")
    return paths


def _fits_the_kind(status: int, info: ValidationInfo) -> int:
    if status in {204, 205, 304} and info.data.get("kind") != "empty":
        raise ValueError("this status carries no body")
    return status


def _can_be_told(form: str, info: ValidationInfo) -> str:
    if form == "date" and not isinstance(info.data.get("retry_after"), int):
        raise ValueError("a date is made of retry_after in seconds")
    return form


class FaultOrder(Order):
    """Matchers that are left out match everything; what a kind has no use for is ignored."""

    kind: Annotated[str, AfterValidator(_known_kind)]
    path: Annotated[Several, AfterValidator(_breakable)] | None = None
    """A prefix, or several of which one has to fit."""
    method: Literal["GET", "POST"] | None = None
    account_id: Several | None = None
    """One account, or several."""
    grant_type: str | None = None
    share_of: Literal["requests", "keys"] = "requests"
    """Of keys, the share is of the Idempotency-Keys in the order in which they first come: 0.01 breaks one of each
    hundred, however often it is sent again, and a request without a key is never broken."""
    per_key: int | None = Field(None, ge=1)
    """How many requests of one Idempotency-Key it breaks; without it, all of them."""
    status: Annotated[int, Field(ge=200, le=599), AfterValidator(_fits_the_kind)] = 503
    """Of status, throttle, html and empty; each has one of its own when this is left out."""
    retry_after: Annotated[int | str, Field(union_mode="left_to_right")] | None = None
    """Seconds, or an HTTP date (RFC 9110 section 10.2.3); of status and throttle."""
    retry_after_as: Annotated[Literal["seconds", "date"], AfterValidator(_can_be_told)] = "seconds"
    """As a date it is counted from the moment of the answer, by the provider's own clock."""
    body: str | dict[str, Any] | list[Any] | None = None
    """Of status and throttle."""
    bytes_per_s: float = Field(1, gt=0, le=1_000)
    """How fast an answer drips."""
    cut: Literal["connection", "body"] = "connection"
    """What is cut of a truncated answer: the connection, below the length that the headers promise, or only the
    body, which makes it complete HTTP with half of a JSON document inside."""

    @model_validator(mode="before")
    @classmethod
    def _as_usual(cls, order: Any) -> Any:
        match order:
            case {"kind": str(kind)} if kind in KINDS:
                return {**KINDS[kind].usual, **order}
        return order

    def may_hit(self, path: str, method: str) -> bool:
        return (self.path is None or path.startswith(tuple(each(self.path)))) and self.method in {None, method}

    def hits_whom(self, identity: Identity) -> bool:
        return (self.account_id is None or identity.account_id in each(self.account_id)) and (
            self.grant_type is None or self.grant_type == identity.grant_type
        )
