"""How another platform's rate limits and outages do harm by mistake, as triggers. Of its list of pitfalls:

| W16 | a failure of what keeps the rate limit's state has a completed call made again | here |
"""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowHandle

from integrations.db import mitigations
from integrations.db.outage_tables import Mitigation
from integrations.db.session import Sessions
from integrations.domain.job import JobResult
from integrations.domain.outage import Brake, Cut, Target
from tests.factories import every
from tests.job.conftest import Jobs
from tests.outage.conftest import Without
from tests.outage_rows import add_outage
from worker.recorder import Recorder

STATE = "service_mitigations"


async def circuit(sessions: Sessions) -> None:
    """Of what a job writes with, which lets one call through every ten seconds."""
    outage_id = await add_outage(sessions)
    cut = Cut(target=Target(provider_id="simulator", brake=Brake.CIRCUIT, name="notes.write"), rate=0.1)
    async with sessions.begin() as session:
        await mitigations.put(session, outage_id, [cut], timedelta(minutes=2), reason="5xx", by="the test")


async def attempts(handle: WorkflowHandle[Any, Any]) -> int:
    """How often the one step was begun, as the server counts."""
    history = await handle.fetch_history()
    started = [e.activity_task_started_event_attributes for e in history.events]
    return max(each.attempt for each in started)


async def failed_once(handle: WorkflowHandle[Any, Any]) -> bool:
    pending = (await handle.describe()).raw_description.pending_activities
    return any(each.HasField("last_failure") for each in pending)


class TestACallThatIsDone:
    """W16."""

    async def test_is_not_made_again_when_its_limit_can_be_neither_read_nor_written_any_more(
        self, jobs: Jobs, sessions: Sessions, without: Without, unwritable: Recorder
    ) -> None:
        await circuit(sessions)
        # The note is written down at once, and the answer is on its way for a second or two.
        await jobs.person.breaks(kind="drip", path="/api/notes", bytes_per_s=100, count=1)
        handle = await jobs.start("notes.write", key="invoice-7", text="hi")
        async with asyncio.timeout(20):
            while not await jobs.person.requests("/api/notes", "POST"):
                await asyncio.sleep(0.02)

        async with without(STATE):
            result: JobResult = await asyncio.wait_for(handle.result(), 30)

        assert (result.done, result.status) == (True, 201)
        assert await attempts(handle) == 1
        assert len(await jobs.person.requests("/api/notes", "POST")) == 1
        assert await jobs.written() == 1
        [row] = await every(sessions, Mitigation)
        assert row.admitted_at is not None
        # Nor did it wait for the recorder, which has it still.
        assert len(unwritable._waiting) == 1


class TestACallBeforeWhichItsLimitCannotBeRead:
    async def test_is_not_made_and_made_once_later(self, jobs: Jobs, sessions: Sessions, without: Without) -> None:
        await circuit(sessions)
        async with without(STATE):
            handle = await jobs.start("notes.write", key="invoice-8", text="hi")
            async with asyncio.timeout(20):
                while not await failed_once(handle):
                    await asyncio.sleep(0.05)
            assert await jobs.person.requests("/api/notes", "POST") == []

        result: JobResult = await asyncio.wait_for(handle.result(), 60)

        assert result.done
        assert len(await jobs.person.requests("/api/notes", "POST")) == 1
