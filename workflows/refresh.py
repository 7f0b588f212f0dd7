"""Refreshing a connection; a refusal is confirmed before anybody believes it.

refresh ──ok──▶ done; was it blocked, its re-consent lifecycle is told that nothing is left to do
   └─refused──▶ 10 s ──▶ confirm ──ok, or rotated meanwhile──▶ done
                            ├─grant dead: the row is written──▶ announce: the re-consent lifecycle opens
                            ├─our registration refused──▶ errored: a task names the fix
                            └─one of a surge──▶ held back: nothing changes, operators have one task for all
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.detection import DetectionActivities
    from activities.refresh import RefreshActivities
    from integrations.domain.reauth import Detection, RepairedElsewhere
    from integrations.domain.refresh import Refresh, Refreshed, RefreshRequest, RefreshStep
    from workflows.options import ANNOUNCE, PROVIDER_CALL
    from workflows.queues import First, priority, provider_queue
    from workflows.story import Story


@workflow.defn(name="RefreshWorkflow")
class RefreshWorkflow:
    """One open run per connection; across processes a lease in the database keeps refreshes single."""

    @workflow.init
    def __init__(self, request: RefreshRequest) -> None:
        self._story = Story(["refresh", "confirm", "announce"])
        self._queue = provider_queue(request.provider_id)
        self._priority = priority(First.REFRESH, request.tenant)

    @workflow.run
    async def run(self, request: RefreshRequest) -> Refreshed:
        refreshed = request.refused or await self._refresh(request)
        if refreshed.refresh is Refresh.REFUSED:
            refreshed = await self._confirm(request, refreshed)
        if refreshed.detection_id is not None:
            self._story.at("announce", doing=refreshed.why)
            announced = await workflow.execute_activity_method(
                DetectionActivities.announce,
                Detection(detection_id=refreshed.detection_id),
                summary="open the re-consent lifecycle",
                activity_id="announce",
                **ANNOUNCE,
            )
            refreshed = refreshed.model_copy(update={"waits": announced is None})
        if refreshed.repaired:
            await workflow.execute_activity_method(
                DetectionActivities.tell_repaired,
                RepairedElsewhere(
                    connection_id=request.connection_id,
                    provider_id=request.provider_id,
                    by=request.by,
                    reason=f"a refresh works again: {request.reason}",
                ),
                summary="end the re-consent: a refresh works again",
                activity_id="tell_repaired",
                **ANNOUNCE,
            )
        return refreshed

    async def _refresh(self, request: RefreshRequest) -> Refreshed:
        self._story.at("refresh", doing=f"asked by {request.by}: {request.reason}")
        return await workflow.execute_activity_method(
            RefreshActivities.refresh,
            RefreshStep(connection_id=request.connection_id, known_version=request.known_version),
            task_queue=self._queue,
            summary=f"refresh at {request.provider_id}",
            activity_id="refresh",
            priority=self._priority,
            **PROVIDER_CALL,
        )

    async def _confirm(self, request: RefreshRequest, refused: Refreshed) -> Refreshed:
        self._story.at("confirm", doing=f"refused ({refused.why}): a second look in {request.confirm_after}")
        await workflow.sleep(request.confirm_after, summary=f"refused ({refused.why}); look again")
        return await workflow.execute_activity_method(
            RefreshActivities.confirm,
            RefreshStep(connection_id=request.connection_id, known_version=refused.version, meaning=refused.meaning),
            task_queue=self._queue,
            summary=f"confirm at {request.provider_id} what was refused",
            activity_id="confirm",
            priority=self._priority,
            **PROVIDER_CALL,
        )
