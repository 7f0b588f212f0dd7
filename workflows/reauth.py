"""Re-consent: a dead grant blocks its connection until the owner consents again.

open ──▶ wait ──consent──▶ exchange ──▶ prove ──▶ activate        (REPAIRED)
          ▲ │                 │           │
          │ │                 └───────────┴── not a repair: a fresh invitation, and back to wait
          └─┼── detected again: open once more, it joins what is under way
            ├── repaired elsewhere                                (REPAIRED_ELSEWHERE)
            ├── disconnected by a person                          (DISCONNECTED)
            └── deadline, 14 days                                 (EXPIRED)
"""

from collections import deque
from uuid import UUID

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.reauth import ReauthActivities
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
        ReauthOutcome,
        ReauthRequest,
        ReauthResult,
        Repaired,
    )
    from integrations.temporal import CAUSE, DEADLINE
    from workflows.options import CONSENT, DATABASE
    from workflows.queues import provider_queue
    from workflows.story import Story


_CAUSE_LIMIT = 255
"""Characters: a search attribute that is too long would fail the workflow's task again and again."""


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

    @workflow.run
    async def run(self, request: ReauthRequest) -> ReauthResult:
        del request  # the constructor has it
        while True:
            result = await self._lifecycle()
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
                connection_id=self._request.connection_id, lifecycle_id=self._lifecycle_id, deadline=self._deadline
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
        """Wait, for days if need be. False at the deadline."""
        left = self._deadline - workflow.now()
        try:
            await workflow.wait_condition(
                lambda: self._look_again or bool(self._consents),
                timeout=left,
                timeout_summary=f"wait for the owner's consent until {self._deadline:%Y-%m-%d %H:%M} UTC",
            )
        except TimeoutError:
            return False
        return True

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
        self._story.at(
            "wait",
            doing=f"{self._account or 'the owner'} has until {self._deadline:%Y-%m-%d %H:%M} UTC",
            unblock=f"runbook reauth link {self._request.connection_id}",
        )
