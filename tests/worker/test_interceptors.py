import secrets
from datetime import timedelta
from typing import Any

import pytest
import structlog
from temporalio import activity
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from integrations.domain.errors import NotReadyError, StopError, TryAgainError
from integrations.providers.catalog import CatalogError
from worker.interceptors import RunbookInterceptor


class _Inner(ActivityInboundInterceptor):
    """Stands where the SDK calls the activity."""

    def __init__(self, behave: Any) -> None:
        self._behave = behave

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - the SDK's own name
        return self._behave()


async def run(behave: Any) -> Any:
    """What comes of an activity behind the interceptor."""

    @activity.defn
    async def step() -> Any:
        chain = RunbookInterceptor().intercept_activity(_Inner(behave))
        return await chain.execute_activity(ExecuteActivityInput(fn=step, args=[], executor=None, headers={}))

    return await ActivityEnvironment().run(step)


async def raised(error: Exception) -> ApplicationError:
    def fail() -> None:
        raise error from ValueError("the cause holds a secret")

    with pytest.raises(ApplicationError) as found:
        await run(fail)
    return found.value


class TestAnActivity:
    async def test_that_works_is_left_alone(self) -> None:
        assert await run(lambda: 42) == 42

    async def test_logs_with_its_workflow_activity_and_attempt(self) -> None:
        seen = await run(structlog.contextvars.get_contextvars)

        assert set(seen) == {"workflow_id", "activity", "attempt"}
        assert structlog.contextvars.get_contextvars() == {}


class TestAnErrorThatMeansAgain:
    async def test_waits_at_least_as_long_as_the_provider_asked_and_not_in_step(self) -> None:
        asked = timedelta(seconds=100)

        delays = [(await raised(TryAgainError("503", after=asked))).next_retry_delay for _ in range(20)]

        assert all(delay is not None and asked <= delay <= asked * 1.25 for delay in delays)
        assert len(set(delays)) > 1

    @pytest.mark.parametrize("after", [None, timedelta(0)])
    async def test_leaves_the_wait_to_the_policy_when_nobody_asked(self, after: timedelta | None) -> None:
        assert (await raised(TryAgainError("503", after=after))).next_retry_delay is None

    @pytest.mark.parametrize(
        ("error", "kind"), [(TryAgainError("503: down"), "TryAgain"), (NotReadyError("503: down"), "NotReady")]
    )
    async def test_is_expected_and_retried(self, error: Exception, kind: str) -> None:
        found = await raised(error)

        assert (found.message, found.type) == ("503: down", kind)
        assert found.category is ApplicationErrorCategory.BENIGN
        assert not found.non_retryable


class TestAnErrorThatMeansStop:
    @pytest.mark.parametrize(("error", "kind"), [(StopError("no such row"), "Stop"), (CatalogError("typo"), "Catalog")])
    async def test_is_not_retried(self, error: Exception, kind: str) -> None:
        found = await raised(error)

        assert (found.type, found.non_retryable) == (kind, True)
        assert found.category is not ApplicationErrorCategory.BENIGN


class TestAnyOtherError:
    async def test_is_retried_under_a_name_that_people_understand(self) -> None:
        found = await raised(KeyError("a row"))

        assert (found.type, found.non_retryable, found.next_retry_delay) == ("Key", False, None)

    async def test_without_words_is_named_by_its_class(self) -> None:
        assert (await raised(ConnectionResetError())).message == "ConnectionResetError"

    async def test_is_scrubbed_and_bounded(self) -> None:
        token = secrets.token_hex(20)

        found = await raised(RuntimeError(f"at http://x.example/?code=abc with {token} " + "word " * 5_000))

        assert token not in found.message
        assert "code=abc" not in found.message
        assert len(found.message) <= 2000

    @pytest.mark.parametrize("error", [TryAgainError("again"), StopError("stop"), RuntimeError("what")])
    async def test_takes_no_cause_into_the_history(self, error: Exception) -> None:
        failure = Failure()

        await pydantic_data_converter.encode_failure(await raised(error), failure)

        assert not failure.HasField("cause")
        assert "secret" not in str(failure)

    async def test_of_the_sdk_itself_goes_through_as_it_is(self) -> None:
        error = ApplicationError("ours", type="Ours", non_retryable=True)

        assert await raised(error) is error
