"""Started by the Schedule `reconcile`: gives what fell between two commits its next step."""

from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.reconcile import ReconcileActivities, Reconciled
    from activities.reconcile_brakes import ReconcileBrakesActivities
    from workflows.options import RECONCILE
    from workflows.patches import Patch


SCHEDULE: Final = "reconcile"
"""The Schedule's id, and the stem of its workflows' ids."""


@workflow.defn(name="ReconcileWorkflow")
class ReconcileWorkflow:
    @workflow.run
    async def run(self) -> Reconciled:
        found = await workflow.execute_activity_method(
            ReconcileActivities.reauth,
            summary="detections, lifecycles and consents without a next step",
            activity_id="reauth",
            **RECONCILE,
        )
        if not workflow.patched(Patch.RECONCILES_THE_OUTBOX):
            return found
        outbox = await workflow.execute_activity_method(
            ReconcileActivities.outbox,
            summary="dispatchers that do not run, projections without a workflow",
            activity_id="outbox",
            **RECONCILE,
        )
        found = found.model_copy(update={"deliveries": outbox.deliveries, "holds": outbox.holds})
        if not workflow.patched(Patch.RECONCILES_NOTIFICATIONS):
            return found
        messages = await workflow.execute_activity_method(
            ReconcileActivities.notifications,
            summary="channels that do not run, messages without a workflow, dead letters that nobody was told of",
            activity_id="notifications",
            **RECONCILE,
        )
        found = found.model_copy(
            update={"messages": messages.messages, "holds": found.holds + messages.holds, "alerts": messages.alerts}
        )
        if not workflow.patched(Patch.FORGETS_WHAT_IS_OLD):
            return found
        old = await workflow.execute_activity_method(
            ReconcileActivities.old,
            summary="calls of providers and retired credentials that are too old to be kept",
            activity_id="old",
            **RECONCILE,
        )
        found = found.model_copy(update={"calls": old.calls, "credentials": old.credentials})
        if not workflow.patched(Patch.RELEASES_BRAKES):
            return found
        brakes = await workflow.execute_activity_method(
            ReconcileBrakesActivities.mitigations,
            summary="brakes that nobody holds any more, queues that do not let out what the journal says",
            activity_id="mitigations",
            **RECONCILE,
        )
        return found.model_copy(update={"outages": brakes.outages, "queues": brakes.queues})
