"""What people order of the mail server: it refuses, hangs, loses its answer, or tears down connections."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from simulator.order import Order, Several, each

Stage = Literal["connect", "rcpt", "data"]


class MailOrder(Order):
    """Beside it stands what can be said of every fault; what a kind has no use for is ignored."""

    kind: Literal["status", "hang", "drop", "reset"]
    """`status` refuses, `hang` takes the message and says nothing more, `drop` keeps it and hangs up without an answer,
    and `reset` tears down the connection of whoever calls."""
    to: Several | None = None
    """One recipient, or several; without it, all of them. Of all kinds but reset, which asks nobody's name."""
    status: int = Field(451, ge=400, le=599)
    """Of status: 4xx asks to come again, 5xx not to (RFC 5321 section 4.2.1)."""
    at: Literal["rcpt", "data"] = "rcpt"
    """Of status: is one recipient refused, or the whole message once it has been sent?"""

    def may_hit(self, stage: Stage, recipients: Sequence[str]) -> bool:
        return stage == self._stage and (
            self.kind == "reset" or self.to is None or any(one in each(self.to) for one in recipients)
        )

    @property
    def _stage(self) -> Stage:
        stages: dict[str, Stage] = {"status": self.at, "reset": "connect"}
        return stages.get(self.kind, "data")
