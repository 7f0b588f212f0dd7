"""Re-consent: a dead grant blocks its connection until the owner consents again.

open ──▶ wait ──consent──▶ exchange ──▶ prove ──▶ activate        (REPAIRED)
          ▲ │ by the clock:   │           │
          │ │ reminders of the owner, an escalation of the task
          │ │                 └───────────┴── not a repair: a fresh invitation, and back to wait
          └─┼── detected again: open once more, it joins what is under way
            ├── repaired elsewhere                                (REPAIRED_ELSEWHERE)
            ├── disconnected by a person                          (DISCONNECTED)
            └── deadline, 14 days                                 (EXPIRED)
"""

from collections import deque
from datetime import datetime, timedelta
from uuid import UUID

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.reauth import ReauthActivities
    from activities.waiting import WaitingActivities
    from integrations.domain.reauth import (
        Activation,
        Cancel,
        Candidate,
        Consent,
        ConsentDenied,
        ConsentReceived,
        Detection,
        Exchange,
        Expire,
        Extend,
        Opened,
        Opening,
        OpenLifecycle,
        Order,
        ReauthOutcome,
        ReauthRequest,
        ReauthResult,
        Repaired,
        Said,
        SaidUntil,
    )
    from integrations.temporal import CAUSE, DEADLINE
    from workflows.options import CONSENT, DATABASE
    from workflows.pressing import Pressing
    from workflows.queues import provider_queue
    from workflows.story import Story


_CAUSE_LIMIT = 255
"""Characters: a search attribute that is too long would fail the workflow's task again and again."""


_LONGEST = timedelta(days=90)
"""From now: a lifecycle that waits for longer is better given up, and begun again when somebody is there."""
_CLOCK = "the clock"


@workflow.defn(name="ReauthWorkflow")
class ReauthWorkflow:
    """One open run per connection: the workflow's id is the lock. Every step is guarded by the lifecycle's id."""

    @workflow.init
    def __init__(self, request: ReauthRequest) -> None:
        self._request = request
        # Drawn once and kept over a reset of the run, so that links which are out stay good.
        self._lifecycle_id = workflow.uuid4()
        self._deadline = workflow.now() + request.patience
        self._look_again = False
        self._opened_at = workflow.now()
        self._pressing = Pressing(self._opened_at)
        self._changed = False
        self._consents: deque[ConsentReceived] = deque()
        self._taken: set[UUID] = set()
        self._story = Story(["open", "wait", "exchange", "prove", "activate"])
        self._provider_queue = provider_queue(request.provider_id)
        self._account = ""
        self._cause = request.cause[:_CAUSE_LIMIT]

    @workflow.signal(description="A dead or diminished grant was noticed. Sent by the platform; safe to send twice.")
    def detected(self, detection: Detection) -> None:
        del detection  # its row says everything: the next look finds it
        self._look_again = True

    @workflow.signal(
        description="The owner came back with a code. Sent by the callback; other lifecycles' are ignored."
    )
    def consent_received(self, consent: ConsentReceived) -> None:
        # The callback and reconcile may both have sent it; one session brings one code.
        if consent.lifecycle_id == self._lifecycle_id and consent.session_id not in self._taken:
            self._taken.add(consent.session_id)
            self._consents.append(consent)

    @workflow.signal(description="The owner pressed Deny. Recorded; the link stays good.")
    def consent_denied(self, denied: ConsentDenied) -> None:
        if denied.lifecycle_id == self._lifecycle_id:
            self._story.note("the owner declined; the link stays good")
            self._show_waiting()

    @workflow.signal(description="Press when the connection was repaired or disconnected elsewhere: it looks again.")
    def connection_repaired(self, repaired: Repaired) -> None:
        self._story.note(f"{repaired.by}: {repaired.reason}")
        self._look_again = True

    @workflow.update(description="Press when you know of it and will see to it: it is not escalated then.")
    async def acknowledge(self, said: Said) -> str:
        known = await workflow.execute_activity_method(
            WaitingActivities.acknowledge, self._order(said), summary=f"acknowledged by {said.by}", **DATABASE
        )
        self._pressing.acknowledged()
        self._changed = True
        self._story.note(f"acknowledged by {said.by}: {said.reason}")
        return "acknowledged" if known else "there is no open task"

    @workflow.update(description="Press when the owner should be told once more, now and whatever the hour.")
    async def remind(self, said: Said) -> str:
        sent = await workflow.execute_activity_method(
            WaitingActivities.remind, self._order(said), summary=f"remind the owner, asked by {said.by}", **DATABASE
        )
        self._pressing.reminded(workflow.now())
        self._story.note(f"reminded by {said.by}: {said.reason}")
        return "the owner is reminded" if sent else "no invitation waits for an answer"

    @workflow.update(description="Press when the owner needs more time, or less: the new deadline, as a time.")
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
        "(snooze_until): then it stays blocked, and its task open."
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

    @workflow.run
    async def run(self, request: ReauthRequest) -> ReauthResult:
        del request  # the constructor has it
        while True:
            result = await self._lifecycle()
            # A person whose wish is being carried out gets an answer before this run ends.
            await workflow.wait_condition(workflow.all_handlers_finished)
            # A detection that came in while the last step ran would be lost with this run.
            if not self._look_again:
                return result

    async def _lifecycle(self) -> ReauthResult:
        while True:
            opened = await self._open()
            if opened.opening is Opening.ALREADY_REPAIRED:
                return ReauthResult(outcome=ReauthOutcome.REPAIRED_ELSEWHERE, why=opened.why)
            if opened.opening is Opening.DISCONNECTED:
                return ReauthResult(outcome=ReauthOutcome.DISCONNECTED, why=opened.why)
            self._pressing.expect(opened.remind_at, opened.escalate_at)
            self._show_waiting(opened.account)
            while await self._something_happened():
                if self._look_again:
                    break
                result = await self._repaired_by(self._consents.popleft())
                if result is not None:
                    return result
                self._show_waiting()
            else:
                return await self._expire()

    async def _open(self) -> Opened:
        self._look_again = False
        self._story.at(
            "open", doing=self._cause, attributes=[CAUSE.value_set(self._cause), DEADLINE.value_set(self._deadline)]
        )
        opened = await workflow.execute_activity_method(
            ReauthActivities.open,
            OpenLifecycle(
                connection_id=self._request.connection_id,
                lifecycle_id=self._lifecycle_id,
                deadline=self._deadline,
                opened_at=self._opened_at,
                reminding=self._request.reminding,
            ),
            summary=f"block, open the task, invite {self._request.tenant}",
            activity_id=f"open-{workflow.info().get_current_history_length()}",
            **DATABASE,
        )
        cause = opened.why[:_CAUSE_LIMIT]
        if opened.opening is Opening.OPENED and cause != self._cause:
            # A request that a revocation has joined is about the revocation from now on.
            self._cause = cause
            workflow.upsert_search_attributes([CAUSE.value_set(cause)])
        return opened

    async def _something_happened(self) -> bool:
        """Wait, for days if need be, and press now and then. False at the deadline."""
        while True:
            self._changed = False
            try:
                await workflow.wait_condition(
                    lambda: self._look_again or bool(self._consents) or self._changed,
                    timeout=self._pressing.next(self._deadline) - workflow.now(),
                    timeout_summary=f"wait for the owner's consent until {self._deadline:%Y-%m-%d %H:%M} UTC",
                )
            except TimeoutError:
                if workflow.now() >= self._deadline:
                    return False
                await self._press()
            if self._look_again or self._consents:
                return True
            self._show_waiting()

    async def _press(self) -> None:
        """Carry out what is due by the clock."""
        now = workflow.now()
        reminder, escalation = self._pressing.take_reminder(now), self._pressing.take_escalation(now)
        if reminder is not None:
            order = self._by_the_clock(f"reminder-{reminder.isoformat()}", "still waiting")
            await workflow.execute_activity_method(
                WaitingActivities.remind, order, summary="remind the owner", **DATABASE
            )
            self._story.note("the owner was reminded")
        if escalation is not None:
            order = self._by_the_clock(f"escalation-{escalation.isoformat()}", "nobody has acknowledged the task")
            escalated = await workflow.execute_activity_method(
                WaitingActivities.escalate, order, summary="nobody has acknowledged: tell the secondary", **DATABASE
            )
            if escalated:
                self._story.note("not acknowledged: the secondary on-call was told")

    def _by_the_clock(self, key: str, reason: str) -> Order:
        return Order(
            connection_id=self._request.connection_id,
            lifecycle_id=self._lifecycle_id,
            key=key,
            by=_CLOCK,
            reason=reason,
        )

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

    async def _repaired_by(self, received: ConsentReceived) -> ReauthResult | None:
        """Exchange, prove, activate. None when the consent was no repair: its steps have invited afresh."""
        nth = workflow.info().get_current_history_length()
        self._story.at("exchange", doing="sending the code, once")
        exchanged = await workflow.execute_activity_method(
            ReauthActivities.exchange,
            Consent(
                connection_id=self._request.connection_id,
                lifecycle_id=self._lifecycle_id,
                session_id=received.session_id,
                deadline=self._deadline,
            ),
            task_queue=self._provider_queue,
            summary=f"send the code to {self._request.provider_id}, check account and grants",
            activity_id=f"exchange-{nth}",
            **CONSENT,
        )
        if exchanged.exchange is not Exchange.CANDIDATE or exchanged.version is None:
            self._story.note(f"no repair: {exchanged.why}")
            return None
        candidate = Candidate(
            connection_id=self._request.connection_id,
            lifecycle_id=self._lifecycle_id,
            session_id=received.session_id,
            version=exchanged.version,
            deadline=self._deadline,
        )
        self._story.at("prove", doing=f"calling {self._request.provider_id} with version {exchanged.version}")
        proof = await workflow.execute_activity_method(
            ReauthActivities.prove,
            candidate,
            task_queue=self._provider_queue,
            summary=f"call {self._request.provider_id} with candidate version {exchanged.version}",
            activity_id=f"prove-{nth}",
            **CONSENT,
        )
        if not proof.works:
            self._story.note(f"no repair: {proof.why}")
            return None
        self._story.at("activate", doing=f"version {exchanged.version}")
        activation = await workflow.execute_activity_method(
            ReauthActivities.activate,
            candidate,
            summary=f"activate version {exchanged.version}, unblock, close the task",
            activity_id=f"activate-{nth}",
            **DATABASE,
        )
        if activation is Activation.VOID:
            return ReauthResult(outcome=ReauthOutcome.DISCONNECTED, why="given up while the consent was on its way")
        return ReauthResult(outcome=ReauthOutcome.REPAIRED, why="the owner consented", version=exchanged.version)

    async def _expire(self) -> ReauthResult:
        days = self._request.patience.days
        why = f"nobody consented within {days} days" if days else f"nobody consented within {self._request.patience}"
        await workflow.execute_activity_method(
            ReauthActivities.expire,
            Expire(connection_id=self._request.connection_id, lifecycle_id=self._lifecycle_id, why=why),
            summary=f"disconnect: {why}",
            activity_id="expire",
            **DATABASE,
        )
        return ReauthResult(outcome=ReauthOutcome.EXPIRED, why=why)

    def _show_waiting(self, account: str | None = None) -> None:
        if account is not None:
            self._account = account
        until = f"{self._account or 'the owner'} has until {self._deadline:%Y-%m-%d %H:%M} UTC"
        pressing = self._pressing.words(workflow.now())
        self._story.at(
            "wait",
            doing=f"{until}; {pressing}" if pressing else until,
            unblock=f"runbook reauth link {self._request.connection_id}",
        )


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
