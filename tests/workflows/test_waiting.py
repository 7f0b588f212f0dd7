"""What happens while a lifecycle waits: days in a second, on the real server, with scripted steps."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.testing import WorkflowEnvironment

from integrations.domain.errors import TryAgainError
from integrations.domain.reauth import Cancel, Exchange, Exchanged, Opened, Opening, ReauthOutcome, Said, SaidUntil
from integrations.temporal import DEADLINE
from tests.workflows.fakes import FakeReauth, FakeWaiting, consent, detected, request, workers
from tests.workflows.test_reauth import result_of, until
from workflows.pressing import Pressing
from workflows.reauth import ReauthWorkflow

ADA = Said(by="ada", reason="the owner called")
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


def opened(*remind_after: timedelta, escalate_after: timedelta | None = None) -> Opened:
    """As the open step says it, counted from now."""
    now = datetime.now(UTC)
    return Opened(
        opening=Opening.OPENED,
        why="revoked",
        account="a••@acme.example",
        remind_at=tuple(now + after for after in remind_after),
        escalate_at=now + escalate_after if escalate_after is not None else None,
    )


class Waits:
    """A lifecycle that waits, with what it was told and what it did."""

    def __init__(self, env: WorkflowEnvironment, handle: WorkflowHandle[Any, Any], fake: FakeReauth) -> None:
        self.env, self.handle, self.fake = env, handle, fake

    async def ends_by_consent(self) -> None:
        await self.handle.signal(ReauthWorkflow.consent_received, consent(self.fake))
        assert (await result_of(self.handle, self.env)).outcome is ReauthOutcome.REPAIRED


async def waits(env: WorkflowEnvironment, fake: FakeReauth, **changes: Any) -> Waits:
    """One whose time is the real one: a person takes part in it."""
    with env.with_time_skipping_disabled():
        handle = await detected(env.client, request(**changes))
        await until(lambda: "open" in fake.steps)
    return Waits(env, handle, fake)


class TestTheClock:
    async def test_reminds_the_owner_and_escalates_once_until_the_deadline(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeReauth(open=[opened(DAY, 3 * DAY, 6 * DAY, escalate_after=timedelta(hours=1))])
        waiting = FakeWaiting()

        async with workers(time_skipping.client, reauth=fake, waiting=waiting):
            handle = await detected(time_skipping.client, request())
            result = await result_of(handle, time_skipping)

        assert result.outcome is ReauthOutcome.EXPIRED
        assert waiting.steps == ["escalate", "remind", "remind", "remind"]
        assert len({order.key for _, order in waiting.orders}) == 4
        assert all(order.lifecycle_id == fake.lifecycle_id and order.by == "the clock" for _, order in waiting.orders)

    @pytest.mark.parametrize("cached", [100, 0], ids=["cached", "replayed at every task"])
    async def test_presses_nobody_after_the_repair(self, time_skipping: WorkflowEnvironment, cached: int) -> None:
        fake, waiting = FakeReauth(open=[opened(DAY, escalate_after=timedelta(hours=1))]), FakeWaiting()

        async with workers(time_skipping.client, reauth=fake, waiting=waiting, cached=cached):
            lifecycle = await waits(time_skipping, fake)
            await lifecycle.ends_by_consent()

        assert waiting.steps == []

    async def test_begins_no_reminder_anew_after_a_second_detection(self, time_skipping: WorkflowEnvironment) -> None:
        same = opened(0.5 * SECOND, 3 * SECOND)
        fake, waiting, wanted = FakeReauth(open=[same, same]), FakeWaiting(), request()

        async with workers(time_skipping.client, reauth=fake, waiting=waiting):
            with time_skipping.with_time_skipping_disabled():
                handle = await detected(time_skipping.client, wanted)
                await until(lambda: waiting.steps == ["remind"])
                await detected(time_skipping.client, wanted)
                await until(lambda: waiting.steps == ["remind", "remind"])
            await Waits(time_skipping, handle, fake).ends_by_consent()

        assert fake.steps[:2] == ["open", "open"]
        assert len({order.key for _, order in waiting.orders}) == 2


class TestAPerson:
    async def test_who_acknowledges_is_not_escalated_over(self, time_skipping: WorkflowEnvironment) -> None:
        fake, waiting = FakeReauth(open=[opened(3 * SECOND, escalate_after=2 * SECOND)]), FakeWaiting()

        async with workers(time_skipping.client, reauth=fake, waiting=waiting):
            lifecycle = await waits(time_skipping, fake)
            answer = await lifecycle.handle.execute_update(ReauthWorkflow.acknowledge, ADA)
            await until(lambda: "remind" in waiting.steps)
            await lifecycle.ends_by_consent()

        assert answer == "acknowledged"
        assert waiting.steps == ["acknowledge", "remind"]
        assert (waiting.orders[0][1].by, waiting.orders[0][1].reason) == ("ada", "the owner called")

    async def test_may_remind_at_any_hour_and_the_same_order_twice_is_one(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake, waiting = FakeReauth(), FakeWaiting()

        async with workers(time_skipping.client, reauth=fake, waiting=waiting):
            lifecycle = await waits(time_skipping, fake)
            for name in ("monday", "monday", "tuesday"):
                await lifecycle.handle.execute_update(ReauthWorkflow.remind, ADA, id=name)
            await lifecycle.ends_by_consent()

        assert [order.key for _, order in waiting.orders] == ["remind-monday", "remind-tuesday"]

    async def test_who_extends_moves_the_deadline(self, time_skipping: WorkflowEnvironment) -> None:
        fake, waiting = FakeReauth(), FakeWaiting()
        later = datetime.now(UTC) + 5 * SECOND

        async with workers(time_skipping.client, reauth=fake, waiting=waiting):
            lifecycle = await waits(time_skipping, fake, patience=3 * SECOND)
            said = SaidUntil(by="ada", reason="on holiday", until=later)
            await lifecycle.handle.execute_update(ReauthWorkflow.extend, said)
            shown = (await lifecycle.handle.describe()).typed_search_attributes.get(DEADLINE)
            result = await result_of(lifecycle.handle, time_skipping)
            ended = (await lifecycle.handle.describe()).close_time

        assert result.outcome is ReauthOutcome.EXPIRED
        assert waiting.steps == ["extend"]
        assert shown is not None
        assert abs(shown - later) < timedelta(milliseconds=1)
        assert ended is not None
        assert ended >= later

    async def test_who_shortens_ends_it_sooner(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth()

        async with workers(time_skipping.client, reauth=fake):
            lifecycle = await waits(time_skipping, fake)
            said = SaidUntil(by="ada", reason="enough", until=datetime.now(UTC) + 2 * SECOND)
            await lifecycle.handle.execute_update(ReauthWorkflow.extend, said)
            result = await result_of(lifecycle.handle, time_skipping)

        assert result.outcome is ReauthOutcome.EXPIRED

    async def test_who_extends_after_a_deadline_that_was_held_back_is_not_too_late(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        """The step is asked for again while the platform may not act, and finds that there is more time by now."""
        fake = FakeReauth(
            expire=[TryAgainError("paused"), TryAgainError("paused"), uuid4()],
            exchange=[Exchanged(exchange=Exchange.STALE, why="the session is invited")],
        )

        async with workers(time_skipping.client, reauth=fake):
            with time_skipping.with_time_skipping_disabled():
                lifecycle = await waits(time_skipping, fake, patience=SECOND)
                await until(lambda: "expire" in fake.steps)
                said = SaidUntil(by="ada", reason="on holiday", until=datetime.now(UTC) + DAY)
                await lifecycle.handle.execute_update(ReauthWorkflow.extend, said)
                await until(lambda: "exchange" in fake.steps)
                await lifecycle.ends_by_consent()

        assert fake.steps == ["open", "expire", "expire", "expire", "exchange", "exchange", "prove", "activate"]
        assert {expired.deadline for expired in fake.expired} == {fake.opened[0].deadline}

    async def test_who_snoozes_puts_every_pressing_off_and_nothing_else(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeReauth(open=[opened(2 * SECOND, 2.5 * SECOND, 5 * SECOND, escalate_after=1.5 * SECOND)])
        waiting = FakeWaiting()
        quiet = datetime.now(UTC) + 3.5 * SECOND

        async with workers(time_skipping.client, reauth=fake, waiting=waiting):
            lifecycle = await waits(time_skipping, fake)
            how = Cancel(by="ada", reason="known", snooze_until=quiet)
            await lifecycle.handle.execute_update(ReauthWorkflow.cancel, how)
            await until(lambda: "escalate" in waiting.steps)
            pressed = datetime.now(UTC)
            await until(lambda: waiting.steps.count("remind") == 2)
            await lifecycle.ends_by_consent()

        # The first two reminders fell together into one.
        assert waiting.steps == ["snooze", "remind", "escalate", "remind"]
        assert pressed >= quiet

    async def test_who_cancels_gives_the_connection_up(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth(open=[opened(), Opened(opening=Opening.DISCONNECTED, why="ada: left us")])
        waiting = FakeWaiting()

        async with workers(time_skipping.client, reauth=fake, waiting=waiting):
            lifecycle = await waits(time_skipping, fake)
            how = Cancel(by="ada", reason="left us", disconnect=True)
            assert await lifecycle.handle.execute_update(ReauthWorkflow.cancel, how) == "disconnected"
            result = await result_of(lifecycle.handle, time_skipping)

        assert (result.outcome, waiting.steps) == (ReauthOutcome.DISCONNECTED, ["disconnect"])

    @pytest.mark.parametrize(
        ("update", "said", "why"),
        [
            (ReauthWorkflow.acknowledge, Said(by=" ", reason="r"), "by is empty"),
            (ReauthWorkflow.remind, Said(by="ada", reason=""), "reason is empty"),
            (ReauthWorkflow.extend, SaidUntil(by="ada", reason="r", until=NOW - 900 * DAY), "must be in the future"),
            (ReauthWorkflow.extend, SaidUntil(by="ada", reason="r", until=NOW + 9000 * DAY), "at most 90 days away"),
            (
                ReauthWorkflow.extend,
                SaidUntil(by="ada", reason="r", until=datetime(2026, 1, 1)),  # noqa: DTZ001 - the point of it
                "no time zone",
            ),
            (ReauthWorkflow.cancel, Cancel(by="ada", reason="r"), "either disconnect, or snooze_until"),
            (
                ReauthWorkflow.cancel,
                Cancel(by="ada", reason="r", disconnect=True, snooze_until=NOW),
                "either disconnect, or snooze_until",
            ),
        ],
    )
    async def test_who_asks_for_what_makes_no_sense_is_told_why_and_nothing_happens(
        self, time_skipping: WorkflowEnvironment, update: Any, said: Said, why: str
    ) -> None:
        fake, waiting = FakeReauth(), FakeWaiting()

        async with workers(time_skipping.client, reauth=fake, waiting=waiting):
            lifecycle = await waits(time_skipping, fake)
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await lifecycle.handle.execute_update(update, said)
            await lifecycle.ends_by_consent()

        assert why in str(refused.value.cause)
        assert waiting.steps == []

    async def test_cannot_snooze_beyond_the_deadline(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeReauth()

        async with workers(time_skipping.client, reauth=fake):
            lifecycle = await waits(time_skipping, fake)
            how = Cancel(by="ada", reason="r", snooze_until=datetime.now(UTC) + 20 * DAY)
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await lifecycle.handle.execute_update(ReauthWorkflow.cancel, how)
            await lifecycle.ends_by_consent()

        assert "extend first" in str(refused.value.cause)


class TestPressing:
    def test_says_what_comes_next(self) -> None:
        pressing = Pressing(NOW)
        pressing.expect([NOW + DAY], NOW + timedelta(hours=1))

        assert pressing.words(NOW) == (
            "reminder 2026-01-16 12:00 UTC; escalated 2026-01-15 13:00 UTC unless acknowledged"
        )
        assert pressing.next(NOW + 14 * DAY) == NOW + timedelta(hours=1)
        pressing.snooze(NOW + 2 * DAY)
        assert pressing.words(NOW).startswith("snoozed until 2026-01-17 12:00 UTC; reminder 2026-01-17 12:00 UTC")
        assert pressing.next(NOW + 14 * DAY) == NOW + 2 * DAY
        assert pressing.take_reminder(NOW + DAY) is None
        assert pressing.take_escalation(NOW + DAY) is None

    def test_says_nothing_when_nothing_comes(self) -> None:
        assert Pressing(NOW).words(NOW) == ""
