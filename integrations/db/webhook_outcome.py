"""What a handler of webhook deliveries is, and what comes of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Outcome:
    handled_as: str
    detections: tuple[UUID, ...] = ()
    """To be announced once this is committed. Whoever does not leaves them to reconcile."""
    waits: str = ""
    """Why it may not be done now; then it is not settled."""

    @classmethod
    def of_all(cls, outcomes: Sequence["Outcome"]) -> "Outcome":
        """Of all that one delivery tells: it waits as soon as one thing does."""
        return cls(
            "; ".join(dict.fromkeys(each.handled_as for each in outcomes if each.handled_as)),
            tuple(found for each in outcomes for found in each.detections),
            next((each.waits for each in outcomes if each.waits), ""),
        )


Handler = Callable[[AsyncSession, Sequence[Any], bool], Awaitable[dict[UUID, Outcome]]]
"""Of deliveries with one reaction, or notices of them, and whether they are replayed. Keyed by their ids.

Raises whatever keeps it from handling them.
"""
