import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.errors import KeyTakenError, StopError
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.refresh import Refresh
from integrations.domain.verdict import Meaning
from tests.workflows.fakes import CALLED, OUTAGE, FakeJob, FakeRefresh, refreshed, token_refused, workers


def job(connection_id: UUID, key: str, **changes: Any) -> JobRequest:
    given = {
        "connection_id": connection_id,
        "provider_id": "simulator",
        "tenant": "org:acme",
        "capability": "notes.write",
        "idempotency_key": key,
        "by": "ada",
        "reason": "test",
    }
    return JobRequest(**(given | changes))


async def outcome(env: WorkflowEnvironment, wanted: JobRequest) -> JobResult:
    started = await temporal.start_job(env.client, wanted)
    handle = env.client.get_workflow_handle(started.id, result_type=JobResult)
    return await asyncio.wait_for(handle.result(), 60)


class TestAJob:
    async def test_waits_for_the_provider_and_is_done_once(self, time_skipping: WorkflowEnvironment) -> None:
        fake, wanted = FakeJob(OUTAGE, OUTAGE), job(uuid4(), str(uuid4()))

        async with workers(time_skipping.client, job=fake):
            first = await temporal.start_job(time_skipping.client, wanted)
            second = await temporal.start_job(time_skipping.client, wanted)
            handle = time_skipping.client.get_workflow_handle(first.id, result_type=JobResult)
            result = await asyncio.wait_for(handle.result(), 30)

        assert result.done
        assert fake.calls == 3
        assert second.id == first.id

    async def test_is_not_done_again_by_the_same_key(self, time_skipping: WorkflowEnvironment) -> None:
        fake, wanted = FakeJob(), job(uuid4(), str(uuid4()))

        async with workers(time_skipping.client, job=fake):
            first = await temporal.start_job(time_skipping.client, wanted)
            await asyncio.wait_for(first.result(), 30)
            second = await temporal.start_job(time_skipping.client, wanted)
            typed = time_skipping.client.get_workflow_handle(second.id, result_type=JobResult)
            result = await asyncio.wait_for(typed.result(), 30)

        assert result.done
        assert fake.calls == 1

    async def test_is_another_connections_business_with_the_same_key(self, time_skipping: WorkflowEnvironment) -> None:
        fake, key = FakeJob(), str(uuid4())

        async with workers(time_skipping.client, job=fake):
            for connection_id in (uuid4(), uuid4()):
                started = await temporal.start_job(time_skipping.client, job(connection_id, key))
                await asyncio.wait_for(started.result(), 30)

        assert fake.calls == 2

    async def test_refuses_another_payload_and_another_capability_and_tells_none_of_them(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake, connection_id = FakeJob(), uuid4()
        wanted = job(connection_id, "invoice-7", payload={"text": "the first secret"})

        async with workers(time_skipping.client, job=fake):
            await outcome(time_skipping, wanted)
            with pytest.raises(KeyTakenError) as other_payload:
                await temporal.start_job(time_skipping.client, wanted.model_copy(update={"payload": {"text": "other"}}))
            with pytest.raises(KeyTakenError) as other_capability:
                await temporal.start_job(time_skipping.client, wanted.model_copy(update={"capability": "notes.read"}))

        assert "'invoice-7'" in str(other_payload.value)
        assert f"its payload had the digest {wanted.digest[:12]}" in str(other_payload.value)
        assert "secret" not in str(other_payload.value)
        assert "it was for notes.write, and now is for notes.read" in str(other_capability.value)
        assert fake.calls == 1

    async def test_joins_whoever_asks_for_the_same_in_another_order(self, time_skipping: WorkflowEnvironment) -> None:
        fake, connection_id = FakeJob(), uuid4()

        async with workers(time_skipping.client, job=fake):
            await outcome(time_skipping, job(connection_id, "k", payload={"a": 1, "b": [2]}))
            await outcome(
                time_skipping, job(connection_id, "k", payload={"b": [2], "a": 1}, by="grace", reason="again")
            )

        assert fake.calls == 1

    async def test_of_a_job_that_failed_may_be_tried_again_with_the_same_and_nothing_else(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake, wanted = FakeJob(StopError("no such capability")), job(uuid4(), "k", payload={"text": "hi"})

        async with workers(time_skipping.client, job=fake):
            with pytest.raises(WorkflowFailureError):
                await outcome(time_skipping, wanted)
            with pytest.raises(KeyTakenError):
                await temporal.start_job(time_skipping.client, wanted.model_copy(update={"payload": {"text": "ho"}}))
            again = await outcome(time_skipping, wanted)

        assert again.done
        assert fake.calls == 2


class TestARefusedToken:
    async def test_is_renewed_and_the_call_made_once_more_with_the_same_key(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake, refresh = FakeJob(token_refused(3)), FakeRefresh(refreshed(Refresh.REFRESHED, version=4))
        wanted = job(uuid4(), "k")

        async with workers(time_skipping.client, job=fake, refresh=refresh):
            result = await outcome(time_skipping, wanted)

        assert (result.done, result.refresh) == (True, Refresh.REFRESHED)
        assert fake.keys == ["k", "k"]
        assert refresh.known == [3]

    async def test_that_somebody_has_renewed_is_not_renewed_again(self, time_skipping: WorkflowEnvironment) -> None:
        fake, refresh = FakeJob(token_refused(3)), FakeRefresh(refreshed(Refresh.ROTATED_MEANWHILE, version=4))

        async with workers(time_skipping.client, job=fake, refresh=refresh):
            result = await outcome(time_skipping, job(uuid4(), "k"))

        assert (result.done, fake.calls) == (True, 2)

    async def test_is_not_answered_by_a_refresh_that_was_about_an_older_one(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeJob(token_refused(3))
        refresh = FakeRefresh(refreshed(Refresh.ROTATED_MEANWHILE, version=3), refreshed(Refresh.REFRESHED, version=4))

        async with workers(time_skipping.client, job=fake, refresh=refresh):
            result = await outcome(time_skipping, job(uuid4(), "k"))

        assert (result.done, fake.calls) == (True, 2)
        assert refresh.steps == ["refresh", "refresh"]

    async def test_refused_again_is_told_and_asked_for_no_third_time(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeJob(token_refused(3), token_refused(4))
        refresh = FakeRefresh(refreshed(Refresh.REFRESHED, version=4))

        async with workers(time_skipping.client, job=fake, refresh=refresh):
            result = await outcome(time_skipping, job(uuid4(), "k"))

        assert (result.meaning, result.refresh, result.refused_version) == (
            Meaning.OWNER_MUST_ACT,
            Refresh.REFRESHED,
            4,
        )
        assert result.because.endswith("the access token is not accepted, not even after a refresh")
        assert (fake.calls, refresh.steps) == (2, ["refresh"])

    @pytest.mark.parametrize(
        ("found", "meaning"),
        [
            (Refresh.NOT_CONNECTED, Meaning.OWNER_MUST_ACT),
            (Refresh.AMBIGUOUS, Meaning.OWNER_MUST_ACT),
            (Refresh.OPERATOR_MUST_ACT, Meaning.OPERATOR_MUST_ACT),
        ],
    )
    async def test_without_another_one_ends_the_job_with_what_the_refresh_found(
        self, time_skipping: WorkflowEnvironment, found: Refresh, meaning: Meaning
    ) -> None:
        fake, refresh = FakeJob(token_refused(3)), FakeRefresh(refreshed(found, version=3, why="for this reason"))

        async with workers(time_skipping.client, job=fake, refresh=refresh):
            result = await outcome(time_skipping, job(uuid4(), "k"))

        assert (result.done, result.meaning, result.refresh) == (False, meaning, found)
        assert "for this reason" in result.because
        assert fake.calls == 1

    async def test_waits_for_a_refresh_that_waits_for_the_provider_and_joins_no_second_one(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake, refresh = FakeJob(token_refused(3)), FakeRefresh(*[OUTAGE] * 6, refreshed(Refresh.REFUSED, version=3))
        refresh._answers.append(refreshed(Refresh.REFUSED, version=3, why="refused twice", detection_id=uuid4()))

        async with workers(time_skipping.client, job=fake, refresh=refresh):
            result = await outcome(time_skipping, job(uuid4(), "k"))

        assert result.refresh is Refresh.REFUSED
        assert result.because.endswith("refused twice; the owner is asked to consent again")
        assert refresh.steps == ["refresh"] * 7 + ["confirm newer than 3"], "one refresh, however often it is asked"

    async def test_fails_the_job_when_its_refresh_fails(self, time_skipping: WorkflowEnvironment) -> None:
        fake, refresh = FakeJob(token_refused(3)), FakeRefresh(StopError("no such provider"))

        async with workers(time_skipping.client, job=fake, refresh=refresh):
            with pytest.raises(WorkflowFailureError) as failed:
                await outcome(time_skipping, job(uuid4(), "k"))

        assert "refresh:simulator:" in str(failed.value.cause.__cause__)
        assert fake.calls == 1

    async def test_that_is_none_costs_no_refresh(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeJob(CALLED.model_copy(update={"meaning": Meaning.OWNER_MUST_ACT, "because": "403: a right"}))

        async with workers(time_skipping.client, job=fake):
            started = await temporal.start_job(time_skipping.client, job(uuid4(), "k"))
            await asyncio.wait_for(started.result(), 30)

        events = (await time_skipping.client.get_workflow_handle(started.id).fetch_history()).events
        scheduled = [e for e in events if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED]
        assert (fake.calls, len(scheduled)) == (1, 1)
