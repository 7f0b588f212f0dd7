"""What people may ask of a re-consent that waits. Each update is carried out, kept with who and why, and answered."""

from datetime import datetime, timedelta
from uuid import UUID

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.waiting import WaitingActivities
    from integrations.domain.reauth import Cancel, Extend, Order, ReauthRequest, Said, SaidUntil
    from integrations.temporal import DEADLINE
    from workflows.options import DATABASE
    from workflows.pressing import Pressing
    from workflows.story import Story

_LONGEST = timedelta(days=90)
"""From now: a lifecycle that waits for longer is better given up, and begun again when somebody is there."""


class Asked:
    """The part of the lifecycle that answers people. Absolute values: an update is safe to send twice."""

    _request: ReauthRequest
    _lifecycle_id: UUID
    _deadline: datetime
    _pressing: Pressing
    _story: Story
    _changed: bool
    """Something moved that the wait has to look at."""
    _look_again: bool
    """The connection's row has to be looked at."""

    @workflow.update(
        description="Press when you know of it and will see to it: it is not escalated then. "
        'Data: {"by": "you", "reason": "why"}'
    )
    async def acknowledge(self, said: Said) -> str:
        known = await workflow.execute_activity_method(
            WaitingActivities.acknowledge, self._order(said), summary=f"acknowledged by {said.by}", **DATABASE
        )
        self._pressing.acknowledged()
        self._changed = True
        self._story.note(f"acknowledged by {said.by}: {said.reason}")
        return "acknowledged" if known else "there is no open task"

    @workflow.update(
        description="Press when the owner should be told once more, now and whatever the hour. "
        'Data: {"by": "you", "reason": "why"}'
    )
    async def remind(self, said: Said) -> str:
        sent = await workflow.execute_activity_method(
            WaitingActivities.remind, self._order(said), summary=f"remind the owner, asked by {said.by}", **DATABASE
        )
        self._pressing.reminded(workflow.now())
        self._story.note(f"reminded by {said.by}: {said.reason}")
        return "the owner is reminded" if sent else "no invitation waits for an answer"

    @workflow.update(
        description="Press when the owner needs more time, or less: the new deadline, as a time. "
        'Data: {"by": "you", "reason": "why", "until": "2026-12-24T08:00:00Z"}'
    )
    async def extend(self, said: SaidUntil) -> str:
        self._deadline, self._changed = said.until, True
        await workflow.execute_activity_method(
            WaitingActivities.extend,
            self._until(said, said.until),
            summary=f"extended by {said.by} until {said.until:%Y-%m-%d %H:%M} UTC",
            **DATABASE,
        )
        workflow.upsert_search_attributes([DEADLINE.value_set(said.until)])
        self._story.note(f"extended by {said.by}: {said.reason}")
        return f"the owner has until {said.until:%Y-%m-%d %H:%M} UTC"

    @workflow.update(
        description="Press to give the connection up (disconnect), or to leave everybody alone until a date "
        "(snooze_until): then it stays blocked, and its task open. "
        'Data: {"by": "you", "reason": "why", "disconnect": true}, or with "snooze_until": "2026-12-24T08:00:00Z"'
    )
    async def cancel(self, how: Cancel) -> str:
        if how.snooze_until is not None:
            self._pressing.snooze(how.snooze_until)
            self._changed = True
            await workflow.execute_activity_method(
                WaitingActivities.snooze,
                self._until(how, how.snooze_until),
                summary=f"snoozed by {how.by} until {how.snooze_until:%Y-%m-%d %H:%M} UTC",
                **DATABASE,
            )
            self._story.note(f"snoozed by {how.by}: {how.reason}")
            return f"nobody is reminded until {how.snooze_until:%Y-%m-%d %H:%M} UTC"
        await workflow.execute_activity_method(
            WaitingActivities.disconnect, self._order(how), summary=f"disconnect, asked by {how.by}", **DATABASE
        )
        self._look_again = True
        return "disconnected"

    @acknowledge.validator
    def _check_acknowledge(self, said: Said) -> None:
        _check(said)

    @remind.validator
    def _check_remind(self, said: Said) -> None:
        _check(said)

    @extend.validator
    def _check_extend(self, said: SaidUntil) -> None:
        _check(said)
        _check_date("until", said.until)

    @cancel.validator
    def _check_cancel(self, how: Cancel) -> None:
        _check(how)
        if how.disconnect is (how.snooze_until is not None):
            raise ValueError("say either disconnect, or snooze_until with a time")
        if how.snooze_until is not None:
            _check_date("snooze_until", how.snooze_until)
            if how.snooze_until >= self._deadline:
                raise ValueError(f"snooze_until is not before the deadline, {self._deadline}: extend first")

    def _order(self, said: Said) -> Order:
        """A person's order, named by the update that brought it."""
        info = workflow.current_update_info()
        assert info is not None
        return Order(
            connection_id=self._request.connection_id,
            lifecycle_id=self._lifecycle_id,
            key=f"{info.name}-{info.id}",
            by=said.by,
            reason=said.reason,
        )

    def _until(self, said: Said, until: datetime) -> Extend:
        return Extend(**self._order(said).model_dump(), until=until)


def _check(said: Said) -> None:
    for name in ("by", "reason"):
        if not getattr(said, name).strip():
            raise ValueError(f"{name} is empty: say who asks, and why")


def _check_date(name: str, at: datetime) -> None:
    if at.tzinfo is None:
        raise ValueError(f"{name} has no time zone: write it like 2026-12-24T08:00:00Z")
    now = workflow.now()
    if not now < at <= now + _LONGEST:
        raise ValueError(f"{name} is {at}: it must be in the future, and at most {_LONGEST.days} days away")
