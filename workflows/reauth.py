"""Re-consent: a dead grant blocks its connection until the owner consents again.

open ──▶ wait ──consent──▶ exchange ──▶ prove and activate        (REPAIRED)
          ▲ │ by the clock:   │           │
          │ │ reminders of the owner, an escalation of the task
          │ │                 └───────────┴── not a repair: a fresh invitation, and back to wait
          └─┼── detected again: open once more, it joins what is under way
            ├── repaired elsewhere                                (REPAIRED_ELSEWHERE)
            ├── disconnected by a person                          (DISCONNECTED)
            └── deadline, 14 days; a consent that came in time is finished first    (EXPIRED)

While the platform may not act by itself, nothing opens (LEFT), and a deadline is asked for again until it may.
"""

from collections import deque
from datetime import timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from activities.reauth import ReauthActivities
    from activities.waiting import WaitingActivities
    from integrations.domain.reauth import (
        Activation,
        Candidate,
        Consent,
        ConsentDenied,
        ConsentReceived,
        Detection,
        Exchange,
        Expire,
        Opened,
        Opening,
        OpenLifecycle,
        Order,
        Proof,
        ReauthOutcome,
        ReauthRequest,
        ReauthResult,
        Repaired,
    )
    from integrations.temporal import CAUSE, CAUSE_LIMIT, DEADLINE, STEP
    from workflows.asked import Asked
    from workflows.local import locally
    from workflows.options import CONSENT, DATABASE, DATABASE_LOCALLY
    from workflows.patches import Patch
    from workflows.pressing import Pressing
    from workflows.queues import First, priority, provider_queue
    from workflows.story import Story


_CLOCK = "the clock"


@workflow.defn(name="ReauthWorkflow")
class ReauthWorkflow(Asked):
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
        # Since 2026-11 the start brings the first search attributes along: a run is found before any worker took it up.
        # They are in the history's first event, which tells runs from before apart at no cost; a patch's marker costs
        # each run two events. Found as waiting from the start: opening takes a moment, and one that hangs shows it.
        started_at = workflow.info().typed_search_attributes.get(STEP)
        self._revised = started_at is not None
        last = [] if self._revised else ["activate"]
        self._story = Story(["open", "wait", "exchange", "prove", *last], started_at)
        self._since = self._opened_at
        self._in_time = 0
        """Consents that the deadline found on their way."""
        self._provider_queue = provider_queue(request.provider_id)
        self._account = ""
        self._cause = request.cause[:CAUSE_LIMIT]

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
            # In another tab, perhaps, while a consent is being looked at: then that is what is shown.
            if self._story.step == "wait" or not self._revised:
                self._show_waiting()

    @workflow.signal(description="Press when the connection was repaired or disconnected elsewhere: it looks again.")
    def connection_repaired(self, repaired: Repaired) -> None:
        self._story.note(f"{repaired.by}: {repaired.reason}")
        self._look_again = True

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
            self._begin_anew()

    def _begin_anew(self) -> None:
        """What comes after an end is another lifecycle, with all of its time: links of the last one are over."""
        if not self._revised:
            return  # runs from before went on under the same id
        self._lifecycle_id = workflow.uuid4()
        self._opened_at = workflow.now()
        self._deadline = self._opened_at + self._request.patience
        self._pressing = Pressing(self._opened_at)

    async def _lifecycle(self) -> ReauthResult:
        while True:
            opened = await self._open()
            if opened.opening is Opening.ALREADY_REPAIRED:
                return ReauthResult(outcome=ReauthOutcome.REPAIRED_ELSEWHERE, why=opened.why)
            if opened.opening is Opening.DISCONNECTED:
                return ReauthResult(outcome=ReauthOutcome.DISCONNECTED, why=opened.why)
            if opened.opening is Opening.LEFT:
                return ReauthResult(outcome=ReauthOutcome.LEFT, why=opened.why)
            self._pressing.expect(opened.remind_at, opened.escalate_at)
            self._account, self._since = opened.account, opened.since or self._opened_at
            if opened.received and opened.session_id is not None:
                self._take(opened.session_id)
            self._show_waiting()
            result = await self._wait()
            if result is not None:
                return result

    async def _wait(self) -> ReauthResult | None:
        """Until the end, or until something was detected: None."""
        while True:
            if not await self._something_happened():
                expired = await self._expire()
                if expired is not None:
                    return expired
            if self._look_again:
                return None
            result = await self._repaired_by(self._consents.popleft())
            if result is not None:
                return result
            self._show_waiting()

    async def _open(self) -> Opened:
        self._look_again = False
        self._story.at(
            "open",
            doing=self._cause,
            found_as="wait" if self._revised else None,
            attributes=[CAUSE.value_set(self._cause), DEADLINE.value_set(self._deadline)],
        )
        wanted = OpenLifecycle(
            connection_id=self._request.connection_id,
            lifecycle_id=self._lifecycle_id,
            deadline=self._deadline,
            opened_at=self._opened_at,
            reminding=self._request.reminding,
        )
        summary = f"block, open the task, invite {self._request.tenant}"
        step = f"open-{workflow.info().get_current_history_length()}"
        opened: Opened | FailureError | None = None
        if self._request.opens_locally:
            opened = await locally(
                ReauthActivities.open, wanted, DATABASE_LOCALLY, summary=summary, activity_id=f"{step}, locally"
            )
        if not isinstance(opened, Opened):
            opened = await workflow.execute_activity_method(
                ReauthActivities.open, wanted, summary=summary, activity_id=step, **DATABASE
            )
        cause = opened.why[:CAUSE_LIMIT]
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
                prove=self._revised,
            ),
            task_queue=self._provider_queue,
            summary=f"send the code to {self._request.provider_id}, check account and grants, prove it",
            activity_id=f"exchange-{nth}",
            # Of no tenant: where that is held back alone, the code would not live long enough to wait for its turn.
            priority=priority(First.PERSON),
            **CONSENT,
        )
        if exchanged.exchange is Exchange.STALE and workflow.patched(Patch.STALE_MAY_COME_AGAIN):
            self._taken.discard(received.session_id)
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
        proving = f"calling {self._request.provider_id} with version {exchanged.version}"
        if exchanged.proof is not None:
            proof = exchanged.proof
        elif self._revised:
            self._story.at("prove", doing=proving)
            proof = await workflow.execute_activity_method(
                ReauthActivities.prove_and_activate,
                candidate,
                task_queue=self._provider_queue,
                summary=f"call {self._request.provider_id} with version {candidate.version}; if it works, activate it",
                activity_id=f"prove-{nth}",
                priority=priority(First.PERSON, self._request.tenant),
                **CONSENT,
            )
        else:
            self._story.at("prove", doing=proving)
            proof = await self._prove_then_activate(candidate, nth)
        if not proof.works:
            self._story.note(f"no repair: {proof.why}")
            return None
        if proof.activation is Activation.VOID:
            return ReauthResult(outcome=ReauthOutcome.DISCONNECTED, why="given up while the consent was on its way")
        return ReauthResult(outcome=ReauthOutcome.REPAIRED, why="the owner consented", version=candidate.version)

    async def _prove_then_activate(self, candidate: Candidate, nth: int) -> Proof:
        """As it was in two steps."""
        proof = await workflow.execute_activity_method(
            ReauthActivities.prove,
            candidate,
            task_queue=self._provider_queue,
            summary=f"call {self._request.provider_id} with candidate version {candidate.version}",
            activity_id=f"prove-{nth}",
            priority=priority(First.PERSON, self._request.tenant),
            **CONSENT,
        )
        if not proof.works:
            return proof
        self._story.at("activate", doing=f"version {candidate.version}")
        activation = await workflow.execute_activity_method(
            ReauthActivities.activate,
            candidate,
            summary=f"activate version {candidate.version}, unblock, close the task",
            activity_id=f"activate-{nth}",
            **DATABASE,
        )
        return proof.model_copy(update={"activation": activation})

    async def _expire(self) -> ReauthResult | None:
        """The end, or None when a consent was in time and is to be taken up first."""
        # Whole seconds: the deadline may have been moved, by a person's date.
        had = timedelta(seconds=round((self._deadline - self._opened_at).total_seconds()))
        why = f"nobody consented within {f'{had.days} days' if had.days else had}"
        in_time = await workflow.execute_activity_method(
            ReauthActivities.expire,
            Expire(
                connection_id=self._request.connection_id,
                lifecycle_id=self._lifecycle_id,
                why=why,
                deadline=self._deadline,
            ),
            summary=f"disconnect: {why}",
            activity_id=f"expire-{self._in_time}" if self._in_time else "expire",
            **DATABASE,
        )
        if in_time is None:
            return ReauthResult(outcome=ReauthOutcome.EXPIRED, why=why)
        self._in_time += 1
        self._take(in_time)
        return None

    def _take(self, session_id: UUID) -> None:
        """Take up a consent that a row tells of: its signal was lost, or came before."""
        if all(consent.session_id != session_id for consent in self._consents):
            self._taken.add(session_id)
            self._consents.append(ConsentReceived(session_id=session_id, lifecycle_id=self._lifecycle_id))

    def _show_waiting(self) -> None:
        now, connection = workflow.now(), self._request.connection_id
        self._story.at(
            "wait",
            doing=f"for {self._account or 'the owner'} to consent",
            facts=[
                ("broken", self._cause),
                ("since", f"{self._since:%Y-%m-%d %H:%M} UTC"),
                ("deadline", f"{self._deadline:%Y-%m-%d %H:%M} UTC, then it is disconnected"),
                ("next", self._pressing.words(now) or "nobody is pressed any more before the deadline"),
            ],
            unblock=f"runbook reauth link {connection}",
        )
