"""One item of a ledger, tried by its policy until it is settled. A database in trouble uses no attempt up."""

from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.types import MethodAsyncSingleParam

with workflow.unsafe.imports_passed_through():
    from integrations.domain.outbox import DeliveryRequest, DeliveryStep, Retrying
    from integrations.domain.webhook import HandleRequest, HandleStep
    from workflows.options import delivery

S = TypeVar("S")
R = TypeVar("R")
Step = TypeVar("Step", DeliveryStep, HandleStep)


async def until_settled(
    deliver: MethodAsyncSingleParam[Any, S, R], step: S, *, summary: str, retrying: Retrying, tried: int
) -> R | None:
    """What came of it. None when its attempts are used up."""
    while True:
        try:
            return await workflow.execute_activity_method(
                deliver, step, summary=summary, activity_id="deliver", **delivery(retrying, tried)
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            if not _of_the_database(error):
                return None


def _of_the_database(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == "TryAgain"


def given_up(step: Step, request: DeliveryRequest | HandleRequest) -> Step:
    """The step that gives it up, with all its attempts: the row knows of none that ended the process."""
    return step.model_copy(update={"tried": max(request.tried + 1, request.retrying.attempts)})
