"""Re-encryption: after a rotation everything is sealed with the new key, so that the old one can go.

count ──▶ re-encrypt ──▶ check
            │    ▲
            └────┘ a step of some ten thousand rows; another pass while the last one still found something to do
"""

from datetime import timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.keys import KeysActivities
    from integrations.domain.keys import Left, Pass, Reencrypted, ReencryptRequest, ReencryptStep
    from workflows.options import REENCRYPT
    from workflows.story import Story

_PASSES: Final = 3
"""The first does it, the second finds what was written meanwhile. What a third one meets, some process still makes."""


@workflow.defn(name="KeysReencryptWorkflow")
class KeysReencryptWorkflow:
    """One open run per database. A step is some six events, so that a history has room for tens of millions of rows."""

    @workflow.init
    def __init__(self, request: ReencryptRequest) -> None:
        self._request = request
        self._story = Story(["count", "re-encrypt", "check"])
        self._moved = 0

    @workflow.run
    async def run(self, request: ReencryptRequest) -> Reencrypted:
        self._story.at("count", doing=f"asked by {request.by}: {request.reason}")
        total = (await self._left("count what is sealed with another key", "count")).rows
        at = Pass()
        for nth in range(1, _PASSES + 1):
            at = await self._walk(nth, total)
            if not at.moved and not at.busy:
                break
        self._story.at("check", doing="count what is left")
        left = (await self._left("count what is left", "check")).rows
        return Reencrypted(key_id=request.key_id, moved=self._moved, left=left, unopened=at.unopened)

    async def _left(self, summary: str, activity_id: str) -> Left:
        return await workflow.execute_activity_method(
            KeysActivities.left, self._request, summary=summary, activity_id=activity_id, **REENCRYPT
        )

    async def _walk(self, nth: int, total: int) -> Pass:
        """One pass over everything that is sealed."""
        at, began, before, step = Pass(), workflow.now(), self._moved, 0
        while not at.done:
            pace = _pace(self._moved - before, total - self._moved, workflow.now() - began)
            done = f"{self._moved:,} of {total:,}"
            unblock = "runbook keys status" if at.unopened.count else ""
            self._story.at("re-encrypt", doing=f"{done} with {self._request.key_id}{pace}", unblock=unblock)
            step += 1
            at = await workflow.execute_activity_method(
                KeysActivities.reencrypt,
                ReencryptStep(key_id=self._request.key_id, at=at),
                summary=f"{done}, pass {nth}",
                activity_id=f"pass {nth} step {step}",
                **REENCRYPT,
            )
            self._moved = before + at.moved
        return at


def _pace(moved: int, left: int, took: timedelta) -> str:
    """How fast, and how much longer. Nothing before there is something to go by."""
    seconds = took.total_seconds()
    if not moved or not seconds:
        return ""
    rate = moved / seconds
    return f", {rate:,.0f} rows a second, {timedelta(seconds=round(max(0, left) / rate))} to go"
