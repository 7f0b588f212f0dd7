"""The Schedules that a worker makes sure of when it starts: created once, brought up to date by later releases."""

from datetime import timedelta
from typing import Any, Final

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

from workflows import reconcile, refresh_sweep
from workflows.queues import WORKFLOWS

_EVERY: Final = timedelta(minutes=1)
_CATCH_UP: Final = timedelta(minutes=2)
"""After a longer silence one run is enough: it looks at rows, not at what it missed."""


def _each_minute(name: str, workflow: Any, summary: str) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(workflow, id=name, task_queue=WORKFLOWS, static_summary=summary),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=_EVERY)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCH_UP),
    )


SCHEDULES: Final = {
    reconcile.SCHEDULE: _each_minute(
        reconcile.SCHEDULE, reconcile.ReconcileWorkflow.run, "what fell between two commits gets its next step"
    ),
    refresh_sweep.SCHEDULE: _each_minute(
        refresh_sweep.SCHEDULE, refresh_sweep.RefreshSweepWorkflow.run, "what is due for a refresh"
    ),
}


async def ensure(client: Client) -> None:
    """Create the Schedules, or update those there are. A pause by an operator's hand is kept."""
    for name, wanted in SCHEDULES.items():
        await _ensure(client, name, wanted)


async def _ensure(client: Client, name: str, wanted: Schedule) -> None:
    def updated(current: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = current.description.schedule.state
        return ScheduleUpdate(schedule=wanted)

    try:
        await client.create_schedule(name, wanted)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(name).update(updated)
