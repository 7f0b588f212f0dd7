"""Started by the Schedule `reconcile`: gives what fell between two commits its next step."""

from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.reconcile import ReconcileActivities, Reconciled
    from workflows.options import RECONCILE


SCHEDULE: Final = "reconcile"
"""The Schedule's id, and the stem of its workflows' ids."""


@workflow.defn(name="ReconcileWorkflow")
class ReconcileWorkflow:
    @workflow.run
    async def run(self) -> Reconciled:
        return await workflow.execute_activity_method(
            ReconcileActivities.reauth,
            summary="detections, lifecycles and consents without a next step",
            activity_id="reauth",
            **RECONCILE,
        )
