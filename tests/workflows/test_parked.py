"""A job whose patience ends: heard out, parked, told to go on, done once. An hour passes in a moment."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.errors import StopError
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.parked import BY_HAND, FAILED
from integrations.domain.refresh import Refresh, Refreshed, RefreshStep
from integrations.domain.run import Run
from integrations.domain.verdict import Meaning
from tests.workflows.fakes import CALLED, OUTAGE, FakeJob, FakeParked, FakeRefresh, refreshed, token_refused, workers
from tests.workflows.test_job import job

HOUR = timedelta(hours=1)
LONG = [OUTAGE] * 60
"""More attempts than an hour has."""
Handle = WorkflowHandle[Any, JobResult]


async def started(env: WorkflowEnvironment, **changes: Any) -> Handle:
    wanted: JobRequest = job(uuid4(), "k", **({"patience": HOUR} | changes))
    handle = await temporal.start_job(env.client, wanted)
    return env.client.get_workflow_handle(handle.id, run_id=handle.result_run_id, result_type=JobResult)


async def go_on(env: WorkflowEnvironment, handle: Handle) -> None:
    assert await temporal.signal_go_on(env.client, Run(workflow_id=handle.id, run_id=handle.run_id or ""))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


async def is_parked(parked: FakeParked, times: int = 1) -> None:
    await until(lambda: len(parked.parked) == times)


async def result_of(handle: Handle) -> JobResult:
    return await asyncio.wait_for(handle.result(), 30)


class TestAJobOutOfPatience:
    async def test_is_parked_and_done_once_when_it_is_told_to_go_on(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(*LONG), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping)
            await is_parked(parked)
            tried = fake.calls
            fake._answers.clear()
            await go_on(time_skipping, handle)
            result = await result_of(handle)

        [parking] = parked.parked
        assert (result.done, fake.calls) == (True, tried + 1)
        assert tried > 10, "an hour of attempts"
        assert set(fake.keys) == {"k"}
        assert (parking.provider_id, parking.tenant, parking.capability, parking.times) == (
            "simulator",
            "org:acme",
            "notes.write",
            1,
        )
        assert parked.outcomes == ["done"]

    async def test_shows_that_it_is_parked_and_what_unblocks_it(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(*LONG), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping)
            await is_parked(parked)
            seen = await handle.describe()
            told = await handle.query("__temporal_workflow_metadata")
            fake._answers.clear()
            await go_on(time_skipping, handle)
            await result_of(handle)

        assert seen.typed_search_attributes.get(temporal.STEP) == "parked"
        assert "▶ parked: it waits until its provider is back" in str(told)
        assert "runbook outage status simulator" in str(told)
        assert f"temporal workflow signal -w {handle.id} --name go_on" in str(told)
        assert "Press when the provider works again" in str(told)

    async def test_is_parked_again_with_a_new_patience(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(*LONG * 3), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping)
            await is_parked(parked)
            tried = fake.calls
            await go_on(time_skipping, handle)
            await is_parked(parked, 2)
            again = fake.calls - tried
            fake._answers.clear()
            await go_on(time_skipping, handle)
            result = await result_of(handle)

        assert result.done
        assert [each.times for each in parked.parked] == [1, 2]
        assert again > 10
        assert parked.outcomes == ["done"]

    async def test_goes_behind_live_traffic(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(*LONG), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping)
            await is_parked(parked)
            fake._answers.clear()
            await go_on(time_skipping, handle)
            await result_of(handle)

        assert fake.priorities[-1] == 5
        assert 5 not in fake.priorities[:-1]

    async def test_does_not_mind_being_told_twice(self, time_skipping: WorkflowEnvironment) -> None:
        """A word that comes late, while it calls, is none for the next parking."""
        fake, parked = FakeJob(*LONG * 3), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping)
            await is_parked(parked)
            for _ in range(3):
                await go_on(time_skipping, handle)
            await is_parked(parked, 2)
            await asyncio.sleep(0.5)
            assert len(parked.parked) == 2
            fake._answers.clear()
            await go_on(time_skipping, handle)
            assert (await result_of(handle)).done

    async def test_survives_being_replayed_at_each_task(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(*LONG), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked, cached=0):
            handle = await started(time_skipping)
            await is_parked(parked)
            fake._answers.clear()
            await go_on(time_skipping, handle)
            assert (await result_of(handle)).done

    async def test_that_has_none_waits_as_long_as_it_takes(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(*LONG), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            result = await result_of(await started(time_skipping, patience=None))

        assert (result.done, fake.calls) == (True, 61)
        assert (parked.parked, parked.outcomes) == ([], [])

    async def test_that_is_in_time_is_written_down_nowhere(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(OUTAGE, OUTAGE), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            assert (await result_of(await started(time_skipping))).done

        assert (parked.parked, parked.outcomes) == ([], [])


class TestACallThatIsUnderWayAtTheLastMoment:
    """The clock of the server runs on while no timer is due, so the patience is a second, and the call longer."""

    async def test_is_heard_out_and_its_result_counts(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(slow=1), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping, patience=timedelta(seconds=1))
            await fake.under_way.wait()
            await cancel_is_requested(handle)
            fake.may_answer.set()
            result = await result_of(handle)

        assert (result.done, fake.calls) == (True, 1)
        assert (parked.parked, parked.outcomes) == ([], [])

    async def test_that_meets_the_outage_is_parked_with_what_it_met(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(OUTAGE, slow=1), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping, patience=timedelta(seconds=1))
            await fake.under_way.wait()
            await cancel_is_requested(handle)
            fake.may_answer.set()
            await is_parked(parked)
            await go_on(time_skipping, handle)
            assert (await result_of(handle)).done

        assert parked.parked[0].cause == str(OUTAGE)

    async def test_that_ends_for_good_fails_the_job(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(StopError("no such capability"), slow=1), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping, patience=timedelta(seconds=1))
            await fake.under_way.wait()
            await cancel_is_requested(handle)
            fake.may_answer.set()
            with pytest.raises(WorkflowFailureError):
                await result_of(handle)

        assert parked.parked == []


async def cancel_is_requested(handle: Handle) -> None:
    """The patience is over, and the activity runs."""
    async with asyncio.timeout(20):
        while not any(
            event.HasField("activity_task_cancel_requested_event_attributes")
            for event in (await handle.fetch_history()).events
        ):
            await asyncio.sleep(0.05)


class SlowRefresh(FakeRefresh):
    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    @activity.defn(name="refresh.refresh")
    async def refresh(self, step: RefreshStep) -> Refreshed:
        await self.may_answer.wait()
        return refreshed(Refresh.REFRESHED, version=4)


class TestARefreshThatTheJobWaitsFor:
    async def test_is_not_waited_for_longer_than_the_patience(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked, refresh = FakeJob(token_refused(3)), FakeParked(), SlowRefresh()

        async with workers(time_skipping.client, job=fake, parked=parked, refresh=refresh):
            handle = await started(time_skipping, patience=timedelta(seconds=3))
            await is_parked(parked)
            refresh.may_answer.set()
            await go_on(time_skipping, handle)
            result = await result_of(handle)

        assert result.done
        assert fake.calls == 2, "it begins with the call, which a token that was renewed meanwhile is good for"
        assert parked.outcomes == ["done"]

    async def test_that_is_set_aside_under_a_shield_parks_it_at_once(self, time_skipping: WorkflowEnvironment) -> None:
        """What the provider says of its token is not believed now, and no patience makes it so."""
        fake, parked = FakeJob(token_refused(3), token_refused(3)), FakeParked()
        aside = refreshed(Refresh.SET_ASIDE, version=3, why="set aside, shielded")
        refresh = FakeRefresh(aside, refreshed(Refresh.REFRESHED, version=4))

        async with workers(time_skipping.client, job=fake, parked=parked, refresh=refresh):
            handle = await started(time_skipping)
            await is_parked(parked)
            await go_on(time_skipping, handle)
            result = await result_of(handle)

        assert (result.done, fake.calls) == (True, 3)
        assert parked.parked[0].cause == "set aside, shielded"

    async def test_that_is_set_aside_ends_a_job_that_is_never_parked(self, time_skipping: WorkflowEnvironment) -> None:
        fake, refresh = FakeJob(token_refused(3)), FakeRefresh(refreshed(Refresh.SET_ASIDE, version=3, why="shielded"))

        async with workers(time_skipping.client, job=fake, refresh=refresh):
            result = await result_of(await started(time_skipping, patience=None))

        assert (result.done, result.meaning, result.refresh) == (False, Meaning.OUTAGE, Refresh.SET_ASIDE)


class TestItsOutcome:
    async def test_is_what_the_provider_said(self, time_skipping: WorkflowEnvironment) -> None:
        no = CALLED.model_copy(update={"meaning": Meaning.OWNER_MUST_ACT, "because": "403", "status": 403})
        fake, parked = FakeJob(*LONG), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping)
            await is_parked(parked)
            fake._answers[:] = [no]
            await go_on(time_skipping, handle)
            await result_of(handle)

        assert parked.outcomes == ["owner_must_act"]

    async def test_is_failed_when_nothing_can_come_of_it(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(*LONG), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping)
            await is_parked(parked)
            fake._answers[:] = [StopError("the connection is gone")]
            await go_on(time_skipping, handle)
            with pytest.raises(WorkflowFailureError):
                await result_of(handle)

        assert parked.outcomes == [FAILED]

    async def test_is_a_persons_when_they_cancel_it(self, time_skipping: WorkflowEnvironment) -> None:
        fake, parked = FakeJob(*LONG), FakeParked()

        async with workers(time_skipping.client, job=fake, parked=parked):
            handle = await started(time_skipping)
            await is_parked(parked)
            await handle.cancel()
            with pytest.raises(WorkflowFailureError) as ended:
                await result_of(handle)

        assert isinstance(ended.value.cause, CancelledError)
        assert parked.outcomes == [BY_HAND]
