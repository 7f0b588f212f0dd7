"""A dispatcher's run, the same for each ledger that has partitions: drain after drain, and what people see of it."""

from typing import Any, Final

from temporalio import workflow
from temporalio.types import MethodAsyncSingleParam

with workflow.unsafe.imports_passed_through():
    from integrations.domain.ledger import PARTITIONS, partitions_of
    from integrations.domain.outbox import DispatchRequest, Drained
    from workflows.options import DRAIN
    from workflows.queues import DRAIN as DRAIN_QUEUE

_DRAINS: Final = 50
"""Activities of one run: some four hours, after which its history starts anew."""


class Dispatching:
    def __init__(self, request: DispatchRequest, *, ledger: str, items: str, status: str) -> None:
        """`ledger` and `items` in words; `status`: the command that shows how it stands."""
        self._request = request
        self._ledger = ledger
        self._items = items
        self._status = status
        self._last: Drained | None = None

    async def run(self, drain: MethodAsyncSingleParam[Any, DispatchRequest, Drained]) -> str | None:
        """Why there is to be no such dispatcher any more. None: it is time to continue as new."""
        for _ in range(_DRAINS):
            self._show()
            self._last = await workflow.execute_activity_method(
                drain,
                self._request,
                task_queue=DRAIN_QUEUE,
                summary=self._summary(),
                activity_id="drain",
                **DRAIN,
            )
            if self._request.number >= self._last.dispatchers:
                return f"there are to be {self._last.dispatchers} dispatchers by now"
        return None

    def _summary(self) -> str:
        if self._last is None:
            return f"dispatcher {self._request.number} takes its partitions"
        return f"after {self._last.items:,} {self._items}: {self._last.why}"

    def _show(self) -> None:
        lines = [f"- ▶ dispatcher {self._request.number} of {self._ledger}, always on"]
        if self._last is not None:
            deal = ", ".join(map(str, partitions_of(self._request.number, self._last.dispatchers)))
            before = f"{self._last.items:,} {self._items}; {self._last.why}"
            lines += [
                f"- **partitions**: {deal} of {PARTITIONS}, {self._last.dispatchers} dispatchers",
                f"- **before**: {before}, {workflow.now():%Y-%m-%d %H:%M} UTC",
            ]
        workflow.set_current_details("\n".join([*lines, "", f"How it stands: `{self._status}`"]))
