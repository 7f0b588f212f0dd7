"""The Schedules that a worker makes sure of when it starts: created once, brought up to date by later releases."""

from datetime import timedelta
from typing import Final

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from workflows.queues import WORKFLOWS
from workflows.reconcile import SCHEDULE, ReconcileWorkflow

_EVERY: Final = timedelta(minutes=1)
_CATCH_UP: Final = timedelta(minutes=2)
"""After a longer silence one run is enough: it looks at rows, not at what it missed."""


def _reconcile() -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            ReconcileWorkflow.run,
            id=SCHEDULE,
            task_queue=WORKFLOWS,
            static_summary="what fell between two commits gets its next step",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=_EVERY)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCH_UP),
    )


async def ensure(client: Client) -> None:
    """Create the Schedules, or update those there are. A pause by an operator's hand is kept."""
    try:
        await client.create_schedule(SCHEDULE, _reconcile())
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(SCHEDULE).update(_updated)


def _updated(current: ScheduleUpdateInput) -> ScheduleUpdate:
    wanted = _reconcile()
    wanted.state = current.description.schedule.state
    return ScheduleUpdate(schedule=wanted)
