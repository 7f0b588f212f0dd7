"""What the Web UI shows of a waiting workflow: ✔ done, ▶ doing, ○ next, and the command that unblocks it."""

from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

from integrations.temporal import STEP


class Story:
    """A workflow's current details as a short list. `step` also goes into the search attribute of that name."""

    def __init__(self, steps: Sequence[str], now: str | None = None) -> None:
        """`now`: the step whose search attributes came with the workflow's start."""
        self._steps = list(steps)
        self._notes: list[str] = []
        self._now = now
        self.step: str | None = None
        """Where the workflow is."""

    def note(self, text: str) -> None:
        """Add something that happened on the way: a refused consent, a decline."""
        self._notes = [*self._notes, f"{workflow.now():%Y-%m-%d %H:%M} UTC · {text}"][-5:]

    def at(
        self,
        step: str,
        *,
        doing: str,
        facts: Sequence[tuple[str, str]] = (),
        unblock: str = "",
        found_as: str | None = None,
        attributes: Sequence[SearchAttributeUpdate[Any]] = (),
    ) -> None:
        """Show where the workflow is. An event is written only when the step is another one.

        `facts` are what whoever looks wants to know of a step that waits; `attributes` go into the same event.
        `found_as`: the step that the search attribute names, when it is not this one.
        """
        self.step = step
        position = self._steps.index(step)
        marks = ["✔" if n < position else "▶" if n == position else "○" for n in range(len(self._steps))]
        lines = [f"- {mark} {name}" for mark, name in zip(marks, self._steps, strict=True)]
        lines[position] += f": {doing}"
        lines += ["", *(f"- **{name}**: {text}" for name, text in facts)] if facts else []
        lines += ["", *(f"- {note}" for note in self._notes)] if self._notes else []
        if unblock:
            lines += ["", f"Unblock: `{unblock}`"]
        workflow.set_current_details("\n".join(lines))
        found_as = found_as or step
        if found_as != self._now:
            self._now = found_as
            workflow.upsert_search_attributes([STEP.value_set(found_as), *attributes])
