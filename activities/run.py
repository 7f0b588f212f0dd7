"""The run on whose behalf an activity works."""

from temporalio import activity

from integrations.domain.run import Run


def this_run() -> Run:
    info = activity.info()
    return Run(workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or "")
