"""How a job's step fares, as the server counts."""

from typing import Any

from temporalio.client import WorkflowHandle


async def attempts(handle: WorkflowHandle[Any, Any]) -> int:
    """How often its step was begun, at most."""
    history = await handle.fetch_history()
    started = [event.activity_task_started_event_attributes for event in history.events]
    return max(each.attempt for each in started)


async def failed_once(handle: WorkflowHandle[Any, Any]) -> bool:
    """Has its step failed, and is begun again?"""
    pending = (await handle.describe()).raw_description.pending_activities
    return any(each.HasField("last_failure") for each in pending)
