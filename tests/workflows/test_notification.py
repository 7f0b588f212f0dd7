"""What a channel's dispatcher and the delivery of a message decide, with scripted steps."""

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.notification import SendFailedError
from integrations import temporal
from integrations.domain.errors import NotReadyError, StopError
from integrations.domain.notification_delivery import RETRYING, Left, Sending, SendRequest, SendStep, Sent
from integrations.domain.outbox import Retrying
from tests.workflows.fakes import OUTAGE, FakeNotification, workers

UNSENT = SendFailedError("HTTP 503: the receiver is in trouble")
LOCKED = NotReadyError("webhook address of org:acme is sealed with key 'k0', and this process has only 'k1'")
AGAIN = Sending(items=12, why="it has been long enough")
JITTER = 1.2


def left(*, news_for: timedelta = timedelta(days=30), **changes: Any) -> Left:
    given: dict[str, Any] = {
        "dispatch_id": uuid4(),
        "definition": "repaired",
        "channel": "webhook",
        "recipient": "org:acme/ada",
        "event_id": UUID(int=7),
        "event": "connection.activated",
        "provider_id": "simulator",
        "tenant": "org:acme",
        "connection_id": uuid4(),
        "cause": "HTTP 503: the receiver is in trouble",
        "expires_at": datetime.now(UTC) + news_for,
        "answered": True,
    }
    return Left(**(given | changes))


async def ended(
    env: WorkflowEnvironment,
    fake: FakeNotification,
    *,
    tried: int = 1,
    retrying: Retrying = RETRYING,
    **changes: Any,
) -> tuple[WorkflowHandle[Any, Any], Sent]:
    async with workers(env.client, notification=fake):
        wanted = SendRequest(left=left(**changes), tried=tried, retrying=retrying)
        handle = await temporal.start_sending(env.client, wanted)
        return handle, await asyncio.wait_for(handle.result(), 60)


def approx(seconds: float, more: float = 1.0) -> Any:
    """By a clock that a busy machine reads late. `more`: what the worker's jitter may make of it."""
    return pytest.approx(seconds * (1 + more) / 2, abs=seconds * (more - 1) / 2 + 0.25)


def waits(fake: FakeNotification) -> list[timedelta]:
    """Between one attempt and the next."""
    return [later - earlier for earlier, later in zip(fake.tried_at, fake.tried_at[1:], strict=False)]


async def steps(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """How each of its steps was done, in order."""
    kinds = [event.WhichOneof("attributes") or "" for event in (await handle.fetch_history()).events]
    done = [kind.removesuffix("_event_attributes") for kind in kinds]
    return [kind for kind in done if kind in {"marker_recorded", "activity_task_scheduled"}]


class Held(FakeNotification):
    """A message whose attempt lasts until it is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    @activity.defn(name="notification.send")
    async def send(self, step: SendStep) -> Sent:
        self.reached.set()
        await self.go_on.wait()
        return Sent(status="delivered", attempts=step.tried + 1)


class TestADelivery:
    async def test_tries_until_it_arrives(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 10)

        handle, result = await ended(time_skipping, fake)

        assert (result.status, result.attempts, fake.given_up) == ("delivered", 12, 0)
        described = await handle.describe()
        # It is over, and well: the list of what people look for has no word of its own for that.
        assert described.typed_search_attributes.get(temporal.STEP) == "send"

    async def test_gives_it_up_after_twelve_attempts_the_one_in_the_flow_among_them(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 99)

        handle, result = await ended(time_skipping, fake)

        assert (result.status, len(fake.tried_at), fake.given_up) == ("dead", 11, 1)
        described = await handle.describe()
        assert described.typed_search_attributes.get(temporal.STEP) == "dead"

    async def test_waits_twice_as_long_each_time_up_to_a_quarter_of_an_hour(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 99)

        await ended(time_skipping, fake)

        # The first ten seconds were before the workflow.
        expected = [min(timedelta(seconds=20) * 2**n, timedelta(minutes=15)) for n in range(10)]
        assert len(waits(fake)) == 10
        for waited, wanted in zip(waits(fake), expected, strict=True):
            assert wanted <= waited < wanted * JITTER + timedelta(seconds=5)

    async def test_waits_as_long_as_the_other_side_asked_for(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification(attempts=[SendFailedError("HTTP 429: throttled", after=timedelta(hours=2))])

        await ended(time_skipping, fake)

        # The worker adds up to a quarter, so that not all come back at once.
        assert timedelta(hours=2) <= waits(fake)[0] <= timedelta(hours=2.5, seconds=5)

    async def test_waits_a_short_time_in_its_own_task(self, time_skipping: WorkflowEnvironment) -> None:
        """The wait before the first, which is told, those of the policy, and what the other side asks for."""
        asked = SendFailedError("HTTP 429: throttled", after=timedelta(seconds=2))
        fake = FakeNotification(attempts=[asked, *[UNSENT] * 99])
        short = Retrying(attempts=4, first=timedelta(milliseconds=300))
        begun = time.monotonic()

        handle, result = await ended(time_skipping, fake, retrying=short, wait=timedelta(seconds=1))

        assert (result.status, len(fake.began)) == ("dead", 3)
        told, throttled, own = (later - earlier for earlier, later in itertools.pairwise([begun, *fake.began]))
        assert (told, throttled, own) == (approx(1), approx(2, more=1.25), approx(1.2))
        assert await steps(handle) == ["marker_recorded", "marker_recorded"]

    @pytest.mark.parametrize(("wait", "before"), [(4, 0), (10, 10)], ids=["by its own task", "by the server"])
    async def test_waits_once_before_its_first_attempt(
        self, time_skipping: WorkflowEnvironment, wait: int, before: int
    ) -> None:
        handle, _ = await ended(time_skipping, FakeNotification(), wait=timedelta(seconds=wait))

        started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
        assert started.first_workflow_task_backoff.ToTimedelta() == timedelta(seconds=before)

    async def test_goes_on_as_an_activity_when_waits_are_long(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 99)
        short = Retrying(attempts=6, first=timedelta(milliseconds=900))

        handle, result = await ended(time_skipping, fake, retrying=short, wait=timedelta(milliseconds=900))

        assert (result.status, len(fake.began)) == ("dead", 5)
        # Those after 0.9 and 1.8 seconds, then after 3.6, 7.2 and 14.4.
        assert [round(wait.total_seconds(), 1) for wait in waits(fake)[-2:]] == [7.2, 14.4]
        assert await steps(handle) == ["marker_recorded", "activity_task_scheduled", "marker_recorded"]

    async def test_ends_when_it_is_no_news_any_more(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 99)

        _, result = await ended(time_skipping, fake, news_for=timedelta(minutes=3))

        # At 0, 20, 60 and 140 seconds; the next would be too late.
        assert (result.status, len(fake.tried_at), fake.given_up) == ("dead", 4, 1)

    async def test_tries_for_all_without_a_limit_and_twice_a_minute_until_it_is_no_news(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 40)

        _, result = await ended(time_skipping, fake, whole=True, news_for=timedelta(hours=1))

        assert (result.status, len(fake.tried_at)) == ("delivered", 41)
        assert max(waits(fake)) < timedelta(seconds=30) * JITTER + timedelta(seconds=5)

    async def test_that_tries_for_all_ends_when_it_is_no_news_any_more(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 999)

        _, result = await ended(time_skipping, fake, whole=True, news_for=timedelta(minutes=10))

        assert (result.status, fake.given_up) == ("dead", 1)
        assert len(fake.tried_at) > 12

    @pytest.mark.parametrize("ours", [OUTAGE, LOCKED], ids=["a database in trouble", "a key that is missing"])
    async def test_uses_up_no_attempt_for(self, time_skipping: WorkflowEnvironment, ours: Exception) -> None:
        fake = FakeNotification(attempts=[ours] * 30)

        _, result = await ended(time_skipping, fake)

        assert (result.status, fake.given_up) == ("delivered", 0)

    async def test_waits_for_a_database_only_as_long_as_it_is_news(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification(attempts=[OUTAGE] * 9999)

        handle, result = await ended(time_skipping, fake, news_for=timedelta(hours=6))

        assert (result.status, fake.given_up) == ("dead", 1)
        # Eleven attempts take more than an hour. None follows another at once when too little time is left for a wait.
        assert 45 < len(fake.tried_at) < 60
        assert (await handle.describe()).history_length < 300

    async def test_that_was_news_until_now_is_tried_once(self, time_skipping: WorkflowEnvironment) -> None:
        """Its last try in the flow may have ended with its process."""
        fake = FakeNotification(attempts=[UNSENT] * 9)

        _, result = await ended(time_skipping, fake, news_for=-timedelta(minutes=1))

        assert (result.status, len(fake.tried_at)) == ("dead", 1)

    async def test_begun_anew_after_its_last_attempt_tries_once_more(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 9)

        _, result = await ended(time_skipping, fake, tried=12)

        assert (result.status, len(fake.tried_at)) == ("dead", 1)

    async def test_is_told_by_its_id_its_summaries_and_its_details(self, time_skipping: WorkflowEnvironment) -> None:
        handle, _ = await ended(
            time_skipping, FakeNotification(attempts=[UNSENT] * 99), news_for=timedelta(hours=1), answered=False
        )

        described = await handle.describe()
        scheduled = [
            (
                event.activity_task_scheduled_event_attributes.activity_id,
                event.activity_task_scheduled_event_attributes.task_queue.name,
                event.user_metadata.summary.data.decode().strip('"'),
            )
            for event in (await handle.fetch_history()).events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
        assert handle.id.startswith("notification:repaired:")
        found = described.typed_search_attributes
        assert (found[temporal.FAILURE_MODE], found[temporal.TENANT]) == ("notification", "org:acme")
        assert found[temporal.CAUSE] == "HTTP 503: the receiver is in trouble"
        assert found.get(temporal.DEADLINE) is not None
        assert await described.static_summary() == (
            "repaired to org:acme/ada by webhook: HTTP 503: the receiver is in trouble"
        )
        assert scheduled == [
            ("send", "notify", "webhook org:acme/ada: repaired"),
            ("give up", "notify", "give it up: HTTP 503: the receiver is in trouble"),
        ]

    async def test_that_arrives_at_once_costs_no_activity(self, time_skipping: WorkflowEnvironment) -> None:
        handle, _ = await ended(time_skipping, FakeNotification())

        assert await steps(handle) == ["marker_recorded"]

    @pytest.mark.parametrize("changes", [{"answered": False}, {"whole": True}], ids=["ended a process", "for all"])
    async def test_whose_attempts_the_server_has_to_count_is_an_activity(
        self, time_skipping: WorkflowEnvironment, changes: dict[str, Any]
    ) -> None:
        handle, _ = await ended(time_skipping, FakeNotification(), **changes)

        assert await steps(handle) == ["activity_task_scheduled"]

    async def test_that_cannot_be_sent_at_all_is_given_up_at_once(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification(attempts=[StopError("there is no channel 'pigeon'")])

        _, result = await ended(time_skipping, fake)

        assert (result.status, len(fake.tried_at)) == ("dead", 1)

    async def test_is_given_up_by_an_activity_when_the_database_is_in_trouble(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeNotification(attempts=[UNSENT] * 99, given_up_after=2)

        handle, result = await ended(time_skipping, fake)

        assert (result.status, fake.given_up) == ("dead", 3)
        assert await steps(handle) == ["marker_recorded", "activity_task_scheduled"] * 2

    async def test_shows_what_it_does_and_what_unblocks_it(self, time_skipping: WorkflowEnvironment) -> None:
        fake = Held()
        async with workers(time_skipping.client, notification=fake):
            handle = await temporal.start_sending(time_skipping.client, SendRequest(left=left(whole=True)))
            await asyncio.wait_for(fake.reached.wait(), 30)
            during = (await handle.query("__temporal_workflow_metadata")).current_details
            fake.go_on.set()
            await handle.result()
            after = (await handle.query("__temporal_workflow_metadata")).current_details

        assert "▶ send: repaired to org:acme/ada by webhook, as long as it is news" in during
        assert "○ sent or given up" in during
        assert "**about**: connection.activated: simulator of org:acme" in during
        assert "**held back**: what goes to the same place" in during
        assert f"Unblock: `runbook notifications explain {UUID(int=7)}`" in during
        assert "✔ send" in after
        assert "▶ sent or given up: delivered" in after


class TestADispatcher:
    async def test_waits_for_a_database_that_is_down(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification([OUTAGE] * 40)

        await stopped(time_skipping, fake)

        assert fake.drained == 41

    async def test_says_why_the_last_drain_ended(self, time_skipping: WorkflowEnvironment) -> None:
        handle = await stopped(time_skipping, FakeNotification([AGAIN]))

        summaries = [
            event.user_metadata.summary.data.decode().strip('"')
            for event in (await handle.fetch_history()).events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
        assert summaries == [
            "webhook: the dispatcher begins",
            "webhook: after 12 messages: it has been long enough",
        ]

    async def test_starts_its_history_anew_after_fifty_drains(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeNotification([AGAIN] * 60)

        handle = await stopped(time_skipping, fake)

        described = await time_skipping.client.get_workflow_handle(handle.id).describe()
        assert described.run_id != handle.first_execution_run_id
        assert described.history_length < 200
        assert fake.drained == 61


async def stopped(env: WorkflowEnvironment, fake: FakeNotification) -> WorkflowHandle[Any, Any]:
    """A dispatcher until its script is at its end: nothing else ends one."""
    async with workers(env.client, notification=fake):
        handle = await temporal.start_channel(env.client, "webhook")
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 60)
    return handle
