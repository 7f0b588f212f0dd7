"""When the detector looks, and what it shows, with scripted looks."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.outage import DETECTOR, Looked
from tests.workflows.fakes import OUTAGE, FakeOutageDetector, workers

EVERY = timedelta(seconds=15)
FINE = Looked(every=EVERY)
FOUND = Looked(every=EVERY, failing=("simulator: 30 of 30 calls failed in 30 s",), why_not="outage is paused by ada")


async def stopped(env: WorkflowEnvironment, fake: FakeOutageDetector) -> WorkflowHandle[Any, Any]:
    """A detector until its script is at its end: nothing else ends one."""
    async with workers(env.client, detector=fake):
        handle = await temporal.start_detector(env.client)
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 60)
    return handle


def waits(fake: FakeOutageDetector) -> list[float]:
    """Seconds between two looks."""
    pairs = zip(fake.looked_at, fake.looked_at[1:], strict=False)
    return [(after - before).total_seconds() for before, after in pairs]


class TestTheDetector:
    async def test_looks_as_often_as_the_last_look_said(self, time_skipping: WorkflowEnvironment) -> None:
        slower = FINE.model_copy(update={"every": timedelta(minutes=5)})
        fake = FakeOutageDetector([FINE, slower, FINE])

        handle = await stopped(time_skipping, fake)

        assert handle.id == DETECTOR
        assert waits(fake) == pytest.approx([15, 300, 15], abs=5)

    async def test_waits_for_a_database_that_is_down(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutageDetector([OUTAGE] * 20)

        await stopped(time_skipping, fake)

        assert len(fake.looked_at) == 21
        assert max(waits(fake)) < 20

    async def test_shows_what_is_found_and_what_keeps_it_from_acting(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutageDetector([FINE, FOUND])
        async with workers(time_skipping.client, detector=fake):
            handle = await temporal.start_detector(time_skipping.client)
            with pytest.raises(WorkflowFailureError):
                await handle.result()
            shown = (await handle.query("__temporal_workflow_metadata")).current_details

        assert "**found now**: simulator: 30 of 30 calls failed in 30 s" in shown
        assert "**only looked at**: outage is paused by ada" in shown
        assert "runbook outage status" in shown

    async def test_starts_its_history_anew_after_a_hundred_looks(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutageDetector([Looked(every=timedelta(milliseconds=1))] * 105)

        handle = await stopped(time_skipping, fake)

        described = await time_skipping.client.get_workflow_handle(handle.id).describe()
        assert described.run_id != handle.first_execution_run_id
        assert described.history_length < 100
        assert len(fake.looked_at) == 106
