"""Refreshing what is due, before it expires: one run a minute finds the providers, one run each refreshes there.

So one provider's trouble stops nobody else: its chunk waits by its policy, and its run stays open until it is over.
"""

import asyncio
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.refresh_sweep import RefreshSweepActivities
    from integrations.domain.refresh import Chunk, ChunkStep, SweepRequest, Swept
    from workflows.options import REFRESH_CHUNK, SWEEP
    from workflows.queues import First, priority, provider_queue


SCHEDULE: Final = "refresh-sweep"
"""The Schedule's id, and the stem of its workflows' ids."""


@workflow.defn(name="RefreshSweepWorkflow")
class RefreshSweepWorkflow:
    @workflow.run
    async def run(self) -> Swept:
        return await workflow.execute_activity_method(
            RefreshSweepActivities.start,
            summary="start a sweep of each provider at which something is due",
            activity_id="start",
            **SWEEP,
        )


@workflow.defn(name="ProviderRefreshWorkflow")
class ProviderRefreshWorkflow:
    """One open run per provider, in lanes of chunks, until nothing is due there."""

    @workflow.init
    def __init__(self, request: SweepRequest) -> None:
        self._request = request
        self._done = Chunk()
        self._chunks = 0
        self._queue = provider_queue(request.provider_id)

    @workflow.run
    async def run(self, request: SweepRequest) -> Chunk:
        self._show()
        more = await asyncio.gather(*(self._lane() for _ in range(request.lanes)))
        if any(more):
            workflow.continue_as_new(request)
        return self._done

    async def _lane(self) -> bool:
        """Refresh chunk by chunk. True when there is more, and this run's history is long enough."""
        while not workflow.info().is_continue_as_new_suggested():
            self._chunks += 1
            chunk = await workflow.execute_activity_method(
                RefreshSweepActivities.chunk,
                ChunkStep(provider_id=self._request.provider_id),
                task_queue=self._queue,
                summary=f"refresh what is due at {self._request.provider_id}",
                activity_id=f"chunk-{self._chunks}",
                priority=priority(First.SWEEP),
                **REFRESH_CHUNK,
            )
            if not chunk.taken:
                return False
            self._done += chunk
            self._show()
        return True

    def _show(self) -> None:
        provider_id = self._request.provider_id
        workflow.set_current_details(
            f"- ▶ refresh what is due at {provider_id}, {self._request.lanes} chunks at once: {self._done.words}\n\n"
            f"A chunk that waits says why in its last failure. One connection: `runbook connections refresh ID`"
        )
