import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.refresh import Refresh, Refreshed, RefreshRequest
from integrations.domain.verdict import Meaning
from tests.workflows.fakes import OUTAGE, FakeDetection, FakeRefresh, refreshed, workers


async def outcome(env: WorkflowEnvironment) -> tuple[WorkflowHandle[Any, Any], Refreshed]:
    wanted = RefreshRequest(
        connection_id=uuid4(), provider_id="simulator", tenant="org:acme", by="ada", reason="the token is due"
    )
    started = await temporal.start_refresh(env.client, wanted)
    handle = env.client.get_workflow_handle(started.id, result_type=Refreshed)
    return started, await asyncio.wait_for(handle.result(), 30)


class TestARefresh:
    async def test_ends_when_it_works(self, time_skipping: WorkflowEnvironment) -> None:
        fake, detection = FakeRefresh(refreshed(Refresh.REFRESHED, version=2)), FakeDetection()

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            _, result = await outcome(time_skipping)

        assert result.version == 2
        assert fake.steps == ["refresh"]
        assert (detection.announced, detection.repaired) == ([], [])

    async def test_that_brings_a_blocked_connection_back_tells_its_lifecycle(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeRefresh(refreshed(Refresh.REFRESHED, version=2, repaired=True))
        detection = FakeDetection()

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            handle, _ = await outcome(time_skipping)

        assert detection.repaired == [handle.id.replace("refresh:", "reauth:")]

    async def test_waits_for_an_outage_to_end_and_demotes_nobody(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeRefresh(OUTAGE, OUTAGE, OUTAGE, refreshed(Refresh.REFRESHED, version=2))
        detection = FakeDetection()

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            _, result = await outcome(time_skipping)

        assert result.refresh is Refresh.REFRESHED
        assert fake.steps == ["refresh"] * 4
        assert detection.announced == []


class TestARefusal:
    async def test_is_confirmed_ten_seconds_later_and_announced(self, time_skipping: WorkflowEnvironment) -> None:
        found = uuid4()
        fake = FakeRefresh(
            refreshed(Refresh.REFUSED, version=3, why="400 invalid_grant"),
            refreshed(Refresh.REFUSED, version=3, detection_id=found),
        )
        detection = FakeDetection()

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            handle, result = await outcome(time_skipping)

        events = (await handle.fetch_history()).events
        timers = [e for e in events if e.event_type == EventType.EVENT_TYPE_TIMER_STARTED]
        waited = timers[0].timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
        assert result.detection_id == found
        assert fake.steps == ["refresh", "confirm newer than 3"]
        assert detection.announced == [found]
        assert waited == timedelta(seconds=10)

    @pytest.mark.parametrize("may_act", [True, False])
    async def test_says_whether_its_detection_waits(self, time_skipping: WorkflowEnvironment, may_act: bool) -> None:
        fake = FakeRefresh(
            refreshed(Refresh.REFUSED, version=3), refreshed(Refresh.REFUSED, version=3, detection_id=uuid4())
        )

        async with workers(time_skipping.client, refresh=fake, detection=FakeDetection(may_act=may_act)):
            _, result = await outcome(time_skipping)

        assert result.waits is not may_act

    async def test_is_dropped_when_the_token_was_rotated_meanwhile(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeRefresh(refreshed(Refresh.REFUSED, version=3), refreshed(Refresh.ROTATED_MEANWHILE, version=4))
        detection = FakeDetection()

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            _, result = await outcome(time_skipping)

        assert result.refresh is Refresh.ROTATED_MEANWHILE
        assert detection.announced == []

    async def test_of_our_registration_is_confirmed_too_and_announced_to_no_owner(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeRefresh(
            refreshed(Refresh.REFUSED, version=3, why="401 invalid_client", meaning=Meaning.OPERATOR_MUST_ACT),
            refreshed(Refresh.OPERATOR_MUST_ACT, version=3),
        )
        detection = FakeDetection()

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            _, result = await outcome(time_skipping)

        assert result.refresh is Refresh.OPERATOR_MUST_ACT
        assert fake.steps == ["refresh", "confirm newer than 3"]
        assert fake.meanings == [None, Meaning.OPERATOR_MUST_ACT]
        assert (detection.announced, detection.repaired) == ([], [])

    async def test_that_is_one_of_a_surge_ends_there(self, time_skipping: WorkflowEnvironment) -> None:
        fake, detection = FakeRefresh(refreshed(Refresh.SUSPECT, version=3)), FakeDetection()

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            _, result = await outcome(time_skipping)

        assert (result.refresh, fake.steps, detection.announced) == (Refresh.SUSPECT, ["refresh"], [])


class TestALostRotation:
    async def test_is_announced_without_a_second_try(self, time_skipping: WorkflowEnvironment) -> None:
        found = uuid4()
        fake, detection = FakeRefresh(refreshed(Refresh.AMBIGUOUS, version=3, detection_id=found)), FakeDetection()

        async with workers(time_skipping.client, refresh=fake, detection=detection):
            await outcome(time_skipping)

        assert fake.steps == ["refresh"]
        assert detection.announced == [found]
