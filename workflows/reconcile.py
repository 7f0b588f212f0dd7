"""Started by the Schedule `reconcile`: gives what fell between two commits its next step."""

from dataclasses import dataclass
from typing import Any, Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception
from temporalio.types import MethodAsyncNoParam

with workflow.unsafe.imports_passed_through():
    from activities.reconcile import ReconcileActivities, Reconciled
    from activities.reconcile_brakes import ReconcileBrakesActivities
    from activities.reconcile_webhooks import ReconcileWebhooksActivities
    from activities.retention import RetentionActivities
    from activities.webhook_selftest import WebhookSelfTestActivities
    from workflows.options import RECONCILE
    from workflows.patches import Patch


SCHEDULE: Final = "reconcile"
"""The Schedule's id, and the stem of its workflows' ids."""


@dataclass(frozen=True, slots=True)
class _Step:
    does: MethodAsyncNoParam[Any, Reconciled]
    id: str
    summary: str
    since: Patch | None = None
    """Not done by a run that began before there was such a step."""


# The brakes first: one that nobody holds any more keeps a provider's calls back until it is seen here.
_STEPS: Final = (
    _Step(
        ReconcileBrakesActivities.mitigations,
        "mitigations",
        "brakes that nobody holds any more, queues that do not let out what the journal says",
        Patch.RELEASES_BRAKES,
    ),
    _Step(ReconcileActivities.reauth, "reauth", "detections, lifecycles and consents without a next step"),
    _Step(
        ReconcileActivities.outbox,
        "outbox",
        "dispatchers that do not run, projections without a workflow",
        Patch.RECONCILES_THE_OUTBOX,
    ),
    _Step(
        ReconcileActivities.notifications,
        "notifications",
        "channels that do not run, messages without a workflow, dead letters that nobody was told of",
        Patch.RECONCILES_NOTIFICATIONS,
    ),
    _Step(
        ReconcileWebhooksActivities.webhooks,
        "webhooks",
        "dispatchers of webhooks that do not run, deliveries without a workflow",
        Patch.RECONCILES_WEBHOOKS,
    ),
    _Step(
        RetentionActivities.old,
        "old",
        "calls, credentials, webhooks and events that are too old to be kept",
        Patch.FORGETS_WHAT_IS_OLD,
    ),
    _Step(
        WebhookSelfTestActivities.self_tests,
        "webhook-self-tests",
        "webhook channels whose secret or section of the catalog changed",
        Patch.TESTS_WEBHOOKS,
    ),
)


@workflow.defn(name="ReconcileWorkflow")
class ReconcileWorkflow:
    @workflow.run
    async def run(self) -> Reconciled:
        """One after the other. A step that failed keeps none of the later ones from being done; the run fails then."""
        found, failed = Reconciled(), list[ActivityError]()
        for step in _STEPS:
            if step.since is not None and not workflow.patched(step.since):
                continue
            try:
                found = _both(found, await _done(step))
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                failed.append(error)
        if failed:
            raise failed[0]
        return found


async def _done(step: _Step) -> Reconciled:
    return await workflow.execute_activity_method(step.does, summary=step.summary, activity_id=step.id, **RECONCILE)


def _both(one: Reconciled, other: Reconciled) -> Reconciled:
    return Reconciled(**{name: getattr(one, name) + getattr(other, name) for name in Reconciled.model_fields})
