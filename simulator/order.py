"""What can be ordered of every fault, of whatever it breaks."""

import random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

DAY_S = 86_400


def _one_or_more(named: object, parse: ValidatorFunctionWrapHandler) -> Any:
    try:
        return parse(named)
    except ValidationError:
        raise ValueError("must be a text, or a list of at least one") from None


Several = Annotated[str | Annotated[list[str], Field(min_length=1)], WrapValidator(_one_or_more)]


def each(named: Several | None) -> list[str]:
    return [named] if isinstance(named, str) else named or []


class Order(BaseModel):
    """What can be said of every fault: from when on, for how long, how often, and how many it spares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    after_s: float = Field(0, ge=0, le=DAY_S)
    """How long the fault waits before it starts; a script is made of these."""
    seconds: float | None = Field(None, gt=0, le=DAY_S)
    """How long the fault itself lasts; without it, until it is lifted."""
    count: int | None = Field(None, ge=1)
    """How many requests it breaks before it is used up."""
    share: float = Field(1, gt=0, le=1)
    """The part of the matching requests that it breaks, drawn for each."""
    seconds_hold: float = Field(3600, gt=0, le=DAY_S)
    """How long a request that hangs or drips is held."""

    def draws(self) -> bool:
        """Is one more request among the share?"""
        return random.random() < self.share  # noqa: S311 no secret
