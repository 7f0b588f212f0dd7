"""What a workflow waits for: the last failure of its activity that is to be tried again."""

from dataclasses import dataclass

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowExecutionDescription


@dataclass(frozen=True, slots=True)
class Waiting:
    activity_id: str
    why: str
    """In its own words."""


def waiting(described: WorkflowExecutionDescription) -> Waiting | None:
    """None when nothing has failed yet."""
    for each in described.raw_description.pending_activities:
        if each.HasField("last_failure"):
            return Waiting(each.activity_id, each.last_failure.message)
    return None


def is_untaken(described: WorkflowExecutionDescription) -> bool:
    """Is there an activity that no worker has taken?"""
    untaken = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    return any(each.state == untaken for each in described.raw_description.pending_activities)
