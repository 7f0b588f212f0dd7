"""When the lifecycle does what: fourteen days in a second, on the real server."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from integrations.domain.errors import StopError
from integrations.domain.reauth import (
    Activation,
    Candidate,
    ConsentDenied,
    Exchange,
    Exchanged,
    Opened,
    Opening,
    Proof,
    ReauthOutcome,
    ReauthResult,
    Repaired,
)
from integrations.temporal import STEP
from tests.workflows.fakes import OPENED, OUTAGE, FakeReauth, consent, detected, request, workers
from workflows.reauth import ReauthWorkflow

STRAIGHT = ["open", "exchange", "prove", "activate"]
BACK = Exchanged(exchange=Exchange.INVITED_AGAIN, why="the consent was given by b••@other.example")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def until_event(handle: WorkflowHandle[Any, Any], kind: EventType.ValueType) -> None:
    async with asyncio.timeout(20):
        while all(event.event_type != kind for event in (await handle.fetch_history()).events):
            await asyncio.sleep(0.05)  # the server tells of no event


async def result_of(handle: WorkflowHandle[Any, Any], env: WorkflowEnvironment) -> ReauthResult:
    typed = env.client.get_workflow_handle(handle.id, run_id=handle.result_run_id, result_type=ReauthResult)
    return await asyncio.wait_for(typed.result(), 30)


async def step_of(handle: WorkflowHandle[Any, Any]) -> str | None:
    return (await handle.describe()).typed_search_attributes.get(STEP)


async def scheduled(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Its activities, in order: what it does in its own task is none."""
    events = (await handle.fetch_history()).events
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]


class SlowActivation(FakeReauth):
    """The last step takes until it is told to go on."""

    def __init__(self, reached: asyncio.Event, go_on: asyncio.Event, **script: Any) -> None:
        super().__init__(**script)
        self._reached, self._go_on = reached, go_on

    @activity.defn(name="reauth.prove_and_activate")
    async def prove_and_activate(self, candidate: Candidate) -> Proof:
        self._reached.set()
        await self._go_on.wait()
        return await super().prove_and_activate(candidate)


class TestALifecycle:
    @pytest.mark.parametrize("cached", [100, 0], ids=["cached", "replayed at every task"])
    async def test_repairs_when_the_owner_consents(self, time_skipping: WorkflowEnvironment, cached: int) -> None:
        fake = FakeReauth()

        async with workers(time_skipping.client, reauth=fake, cached=cached):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            result = await result_of(handle, time_skipping)

        assert (result.outcome, result.version) == (ReauthOutcome.REPAIRED, 2)
        assert fake.steps == STRAIGHT

    async def test_opens_without_an_activity(self, time_skipping: WorkflowEnvironment) -> None:
        async with workers(time_skipping.client):
            handle = await detected(time_skipping.client, request())
            await result_of(handle, time_skipping)

        assert await scheduled(handle) == ["reauth.expire"]

    async def test_opens_by_an_activity_when_the_database_is_in_trouble(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeReauth(open=[OUTAGE] * 3)

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            await result_of(handle, time_skipping)

        assert await scheduled(handle) == ["reauth.open", "reauth.expire"]
        assert fake.steps == [*4 * ["open"], "expire"]

    async def test_is_over_at_once_when_the_platform_may_not_act_by_itself(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeReauth(open=[Opened(opening=Opening.LEFT, why="reauth is paused by ada")])

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            result = await result_of(handle, time_skipping)

        assert (result.outcome, result.why) == (ReauthOutcome.LEFT, "reauth is paused by ada")
        assert fake.steps == ["open"]

    async def test_that_cannot_be_opened_at_all_fails(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(open=[StopError("there is no connection 7")])

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            with pytest.raises(WorkflowFailureError):
                await result_of(handle, time_skipping)

        assert fake.steps == ["open"]

    async def test_gives_up_after_fourteen_days(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth()

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            result = await result_of(handle, time_skipping)

        waited = await _waited(handle)
        assert result.outcome is ReauthOutcome.EXPIRED
        assert result.why == "nobody consented within 14 days"
        assert fake.steps == ["open", "expire"]
        assert timedelta(days=13, hours=23) < waited <= timedelta(days=14)

    async def test_waits_on_through_a_refused_consent(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(exchange=[BACK])

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            await until(lambda: "exchange" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.REPAIRED
        assert fake.steps == ["open", "exchange", "exchange", "prove", "activate"]

    async def test_does_not_take_a_consent_that_fails_its_proof_for_a_repair(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeReauth(prove=[Proof(works=False, why="403")])
        fake.may_open.clear()

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            fake.may_open.set()
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.EXPIRED
        assert fake.steps == ["open", "exchange", "prove", "expire"]

    async def test_ignores_a_consent_of_another_lifecycle(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth()
        fake.may_open.clear()

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake, lifecycle_id=uuid4()))
            fake.may_open.set()
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.EXPIRED
        assert "exchange" not in fake.steps

    async def test_takes_a_consent_that_is_signalled_twice_once(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(exchange=[BACK])

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            received = consent(fake)
            await asyncio.gather(*(handle.signal(ReauthWorkflow.consent_received, received) for _ in range(5)))
            await until(lambda: "exchange" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, received)
            another = consent(fake)
            await handle.signal(ReauthWorkflow.consent_received, another)
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.REPAIRED
        assert fake.sessions == [received.session_id, another.session_id]

    async def test_sits_out_an_outage_during_exchange_and_proof(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(exchange=[OUTAGE] * 3, prove=[OUTAGE] * 40)
        fake.may_open.clear()

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            fake.may_open.set()
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.REPAIRED
        assert fake.steps.count("prove") == 41

    async def test_keeps_waiting_when_the_owner_declines(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth()

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            denied = ConsentDenied(session_id=uuid4(), lifecycle_id=consent(fake).lifecycle_id)
            await handle.signal(ReauthWorkflow.consent_denied, denied)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.REPAIRED

    async def test_shows_the_consent_that_it_looks_at_when_another_tab_declines_meanwhile(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()
        slow = SlowActivation(reached, go_on)

        async with workers(time_skipping.client, reauth=slow):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in slow.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(slow))
            await asyncio.wait_for(reached.wait(), 20)
            denied = ConsentDenied(session_id=uuid4(), lifecycle_id=consent(slow).lifecycle_id)
            await handle.signal(ReauthWorkflow.consent_denied, denied)
            details = (await handle.query("__temporal_workflow_metadata")).current_details
            go_on.set()
            result = await result_of(handle, time_skipping)

        assert "▶ exchange" in details
        assert result.outcome is ReauthOutcome.REPAIRED


class TestADetection:
    async def test_joins_the_open_lifecycle(self, time_skipping: WorkflowEnvironment) -> None:
        fake, wanted = FakeReauth(), request()

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                first = await detected(time_skipping.client, wanted)
            await until(lambda: "open" in fake.steps)
            second = await detected(time_skipping.client, wanted)
            await until(lambda: fake.steps.count("open") == 2)
            await first.terminate()

        assert second.id == first.id
        assert second.result_run_id == first.result_run_id

    async def test_is_not_lost_when_it_comes_during_the_last_step(self, time_skipping: WorkflowEnvironment) -> None:
        reached, go_on, wanted = asyncio.Event(), asyncio.Event(), request()
        slow = SlowActivation(reached, go_on, open=[OPENED, Opened(opening=Opening.ALREADY_REPAIRED)])

        async with workers(time_skipping.client, reauth=slow):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, wanted)
            await until(lambda: "open" in slow.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(slow))
            await asyncio.wait_for(reached.wait(), 20)
            await detected(time_skipping.client, wanted)
            go_on.set()
            result = await result_of(handle, time_skipping)

        assert slow.steps == [*STRAIGHT, "open"]
        assert result.outcome is ReauthOutcome.REPAIRED_ELSEWHERE
        first, second = slow.opened
        assert first.lifecycle_id != second.lifecycle_id
        assert second.deadline > first.deadline  # it has all of its time

    async def test_starts_a_new_run_after_the_last_one_closed(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(open=[Opened(opening=Opening.ALREADY_REPAIRED)] * 2)
        wanted = request()

        async with workers(time_skipping.client, reauth=fake):
            first = await detected(time_skipping.client, wanted)
            await result_of(first, time_skipping)
            second = await detected(time_skipping.client, wanted)
            await result_of(second, time_skipping)

        assert first.result_run_id != second.result_run_id


class TestAConsentAtTheLastMoment:
    async def test_is_finished_although_the_deadline_has_passed(self, time_skipping: WorkflowEnvironment) -> None:
        """Its signal was lost: the row tells of it."""
        in_time = uuid4()
        fake = FakeReauth(expire=[in_time])

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.REPAIRED
        assert fake.steps == ["open", "expire", "exchange", "prove", "activate"]
        assert fake.sessions == [in_time]

    async def test_that_is_no_repair_leaves_the_deadline_where_it_was(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(
            expire=[uuid4()], exchange=[Exchanged(exchange=Exchange.INVITED_AGAIN, why="another account")]
        )

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.EXPIRED
        assert fake.steps == ["open", "expire", "exchange", "expire"]


class TestAConsentThatNobodyWasToldOf:
    async def test_is_taken_up_when_the_lifecycle_opens(self, time_skipping: WorkflowEnvironment) -> None:
        left = uuid4()
        fake = FakeReauth(open=[OPENED.model_copy(update={"session_id": left, "received": True})])

        async with workers(time_skipping.client, reauth=fake):
            handle = await detected(time_skipping.client, request())
            result = await result_of(handle, time_skipping)

        assert (result.outcome, fake.sessions) == (ReauthOutcome.REPAIRED, [left])

    async def test_is_taken_up_when_it_is_announced_again_after_its_row_was_not_there(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeReauth(exchange=[Exchanged(exchange=Exchange.STALE, why="there is no session …")])

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
                await until(lambda: "open" in fake.steps)
                told = consent(fake)
                await handle.signal(ReauthWorkflow.consent_received, told)
                await until(lambda: "exchange" in fake.steps)
                async with asyncio.timeout(20):
                    while await step_of(handle) != "wait":
                        await asyncio.sleep(0.05)
                await handle.signal(ReauthWorkflow.consent_received, told)
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.REPAIRED
        assert fake.sessions == [told.session_id] * 2


class TestAProof:
    async def test_that_could_not_follow_at_once_is_a_step_that_is_repeated(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeReauth(prove=[OUTAGE, OUTAGE], proves_apart=True)

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
                await until(lambda: "open" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.REPAIRED
        assert fake.steps == ["open", "exchange", "prove", "prove", "prove", "activate"]


class TestSomebodyElse:
    async def test_ends_it_by_disconnecting(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(open=[Opened(opening=Opening.OPENED), Opened(opening=Opening.DISCONNECTED, why="left")])

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            await handle.signal(ReauthWorkflow.connection_repaired, Repaired(by="ada", reason="left"))
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.DISCONNECTED
        assert fake.steps == ["open", "open"]

    async def test_voids_a_consent_on_its_way(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(activate=[Activation.VOID])

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, request())
            await until(lambda: "open" in fake.steps)
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.DISCONNECTED


class TestTheWebUi:
    async def test_tells_what_is_waited_for_and_what_unblocks_it(self, time_skipping: WorkflowEnvironment) -> None:
        fake, wanted = FakeReauth(), request()

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, wanted)
            await until(lambda: "open" in fake.steps)
            await until_event(handle, EventType.EVENT_TYPE_TIMER_STARTED)
            metadata = await handle.query("__temporal_workflow_metadata")
            described = await handle.describe()
            history = await handle.fetch_history()
            await handle.terminate()

        details = metadata.current_details
        summary = "wait for the owner's consent until"
        assert "✔ open" in details
        assert "▶ wait: for a••@acme.example to consent" in details
        assert "**broken**: revoked" in details
        assert "**deadline**: " in details
        assert f"runbook reauth link {wanted.connection_id}" in details
        assert described.typed_search_attributes.get(STEP) == "wait"
        assert described.status is WorkflowExecutionStatus.RUNNING
        assert any(summary in event.user_metadata.summary.data.decode() for event in history.events)


async def _waited(handle: WorkflowHandle[Any, Any]) -> timedelta:
    events = (await handle.fetch_history()).events
    started = next(e for e in events if e.event_type == EventType.EVENT_TYPE_TIMER_STARTED)
    return started.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
