"""Jobs whose patience ends in a real outage: parked by the real worker, told to go on, each done once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from activities.parked import look_after, release
from integrations import temporal
from integrations.db import parked
from integrations.db.outage_tables import ParkedJob
from integrations.domain.parked import BY_HAND, Waiting
from starters.client import ParkedError
from tests.db.test_parked import age
from tests.factories import every
from tests.job.conftest import Jobs

SHORT = timedelta(seconds=1)


async def down(jobs: Jobs, **order: object) -> None:
    """Everything that the API is asked."""
    await jobs.person.breaks(**({"kind": "status", "path": "/api/notes", "status": 503} | order))


async def waiting(jobs: Jobs) -> Waiting:
    async with jobs.platform.sessions.begin() as session:
        return await parked.waiting(session, "simulator", datetime.now(UTC) - timedelta(hours=1))


async def until_parked(jobs: Jobs, count: int) -> list[ParkedJob]:
    async with asyncio.timeout(30):
        while True:
            rows = await every(jobs.platform.sessions, ParkedJob)
            if len(rows) == count:
                return rows
            await asyncio.sleep(0.05)


async def until_over(jobs: Jobs) -> Waiting:
    async with asyncio.timeout(30):
        while not (found := await waiting(jobs)).over:
            await asyncio.sleep(0.05)
    return found


class TestAnOutage:
    async def test_loses_no_job_and_each_is_done_once(self, jobs: Jobs) -> None:
        await down(jobs)
        handles = await asyncio.gather(
            *(jobs.start("notes.write", key=f"k{n}", parked_after=SHORT, text=f"{n}") for n in range(20))
        )
        await until_parked(jobs, 20)
        await jobs.person.heals()

        told = [
            await release(jobs.platform.temporal, jobs.platform.sessions, "simulator", 8, by="it") for _ in range(4)
        ]
        results = await asyncio.wait_for(asyncio.gather(*(handle.result() for handle in handles)), 60)

        assert told == [8, 8, 4, 0]
        assert [(result.done, result.status) for result in results] == [(True, 201)] * 20
        assert await jobs.written() == 20
        assert (await until_over(jobs)).outcomes == {"done": 20}

    async def test_that_lets_a_last_answer_through_has_it_count(self, jobs: Jobs) -> None:
        """The note is written, and its answer takes longer than the patience."""
        await down(jobs, kind="drip", bytes_per_s=40, count=1)

        handle = await jobs.start("notes.write", key="k", parked_after=SHORT, text="hi")
        result = await asyncio.wait_for(handle.result(), 30)

        seen = [event.event_type for event in (await handle.fetch_history()).events]
        assert EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED in seen
        assert (result.done, len(await jobs.person.requests("/api/notes", "POST"))) == (True, 1)
        assert await every(jobs.platform.sessions, ParkedJob) == []

    async def test_is_named_as_what_the_last_attempt_met_when_that_was_heard_out(self, jobs: Jobs) -> None:
        await down(jobs, kind="hang")
        await jobs.start("notes.write", key="k", parked_after=SHORT, text="hi")

        [row] = await until_parked(jobs, 1)

        assert row.cause.startswith("notes.write at Simulator: no answer")

    async def test_that_nobody_found_has_reconcile_tell_them_to_go_on(self, jobs: Jobs) -> None:
        await down(jobs)
        handle = await jobs.start("notes.write", key="k", parked_after=SHORT, text="hi")
        await until_parked(jobs, 1)
        await jobs.person.heals()
        await age(jobs.platform.sessions)

        assert await look_after(jobs.platform.temporal, jobs.platform.sessions, lambda: None) == 1

        assert (await asyncio.wait_for(handle.result(), 30)).done

    async def test_and_a_person_who_ends_one_settle_it(self, jobs: Jobs) -> None:
        await down(jobs)
        handle = await jobs.start("notes.write", key="k", parked_after=SHORT, text="hi")
        await until_parked(jobs, 1)

        await handle.terminate("not needed any more")
        await release(jobs.platform.temporal, jobs.platform.sessions, "simulator", 1, by="it")

        assert (await waiting(jobs)).outcomes == {BY_HAND: 1}


class TestWhoeverWaitsForIt:
    async def test_is_told_since_when_it_is_parked_and_gets_its_result_later(self, jobs: Jobs) -> None:
        await down(jobs)
        asked = {"key": "k", "payload": {"text": "hi"}, "by": "the host", "reason": "a test"}

        with pytest.raises(ParkedError, match=r"is parked since \d{4}-\d\d-\d\d \d\d:\d\d UTC: ") as told:
            await jobs.platform.done(jobs.connection.id, "notes.write", patience=6, parked_after=SHORT, **asked)
        assert told.value.parked.times == 1
        assert isinstance(told.value, TimeoutError), "who waits for a timeout alone is told by that"

        await jobs.person.heals()
        await release(jobs.platform.temporal, jobs.platform.sessions, "simulator", 1, by="it")
        result = await jobs.platform.done(jobs.connection.id, "notes.write", patience=30, **asked)

        assert (result.done, await jobs.written()) == (True, 1)
        job = await jobs.start("notes.write", key="k", text="hi")
        assert await jobs.platform.parked(job.id) is None

    async def test_of_one_that_is_only_slow_is_told_that_it_goes_on(self, jobs: Jobs) -> None:
        await down(jobs)

        with pytest.raises(TimeoutError) as told:
            await jobs.platform.done(
                jobs.connection.id,
                "notes.write",
                key="k",
                payload={"text": "hi"},
                by="the host",
                reason="a test",
                patience=1,
            )

        assert not isinstance(told.value, ParkedError)

    async def test_has_an_hour_of_patience_without_saying_so(self, jobs: Jobs) -> None:
        handle = await jobs.start("notes.write", key="k", text="hi")
        await handle.result()

        asked = await temporal._asked_before(jobs.platform.temporal, handle.id)
        described = await handle.describe()

        assert (asked.patience, described.status) == (timedelta(hours=1), WorkflowExecutionStatus.COMPLETED)
